"""Goals of attacks on a detector (Chow et al. 2020, "Adversarial objectness gradient attacks in
real-time object detection systems", section III).

Dimensions: B images.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from cvpipe.config import Detection
from cvpipe.tasks.detection.decode import decode
from cvpipe.tasks.task import Tensors


def vanish(outputs: Tensors, targets: Tensors, config: Detection) -> tf.Tensor:
    """Return the objective of hiding objects, float32 [B]: the logarithm of the probability that no
    box has an object, as if boxes were independent.
    """
    best = tf.reduce_max(decode(outputs, config)[1], axis=2)
    return tf.reduce_sum(tf.math.log(1 - best + 1e-6), axis=1)


def mislabel(
    outputs: Tensors, targets: Tensors, loss: Callable[[Tensors, Tensors], Tensors], classes: int
) -> tf.Tensor:
    """Return the objective of keeping boxes and changing their classes, float32 [B]: minus the loss
    for targets in which each object has the next class.
    """
    labels = tf.convert_to_tensor(targets["labels"])
    others = {**targets, "labels": tf.where(labels >= 0, (labels + 1) % classes, labels)}
    return -tf.add_n(list(loss(outputs, others).values()))
