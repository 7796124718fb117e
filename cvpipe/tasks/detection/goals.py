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
    """Return the logarithm of the probability that no box has an object, float32 [B], if boxes were
    independent. An attack that maximizes it hides objects.
    """
    best = tf.reduce_max(decode(outputs, config)[1], axis=2)
    return tf.reduce_sum(tf.math.log(1 - best + 1e-6), axis=1)


def mislabel(
    outputs: Tensors, targets: Tensors, loss: Callable[[Tensors, Tensors], Tensors], classes: int
) -> tf.Tensor:
    """Return minus the loss if each object had the next class, float32 [B]. An attack that
    maximizes it keeps boxes and changes their classes.
    """
    labels = tf.convert_to_tensor(targets["labels"])
    others = {**targets, "labels": tf.where(labels >= 0, (labels + 1) % classes, labels)}
    return -tf.add_n(list(loss(outputs, others).values()))
