"""Distillation losses: distances between the outputs of a network and those of its teacher.

Dimensions: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf


def soft_cross_entropy(
    logits: tf.Tensor, teacher: tf.Tensor, temperature: float, exclusive: bool = True
) -> tf.Tensor:
    """Cross-entropy with the teacher's softened probabilities, × T² (Hinton et al. 2015, section
    2).

    The factor T² keeps the magnitude of the gradient independent of the temperature T.

    Args:
        logits: float32 [B, …, K].
        teacher: float32, of the same shape.
        temperature: T; higher values give softer probabilities.
        exclusive: True for a softmax; False for one sigmoid per class, whose losses are summed.

    Returns:
        float32 [B], averaged over the dimensions between the first and the last.
    """
    teacher = tf.stop_gradient(teacher) / temperature
    scaled = logits / temperature
    if exclusive:
        losses = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(teacher), scaled)
    else:
        losses = tf.reduce_sum(
            tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(teacher), scaled), axis=-1
        )
    return temperature**2 * _mean_of_images(losses)


def mean_squares(
    outputs: Mapping[str, tf.Tensor], teacher: Mapping[str, tf.Tensor], temperature: float
) -> tf.Tensor:
    """Return the sum, over the outputs, of their mean squared differences, float32 [B].

    This is distillation in the limit of high temperature (Hinton et al. 2015, section 2.1).
    `temperature` is unused.
    """
    each = [
        _mean_of_images(tf.square(output - tf.stop_gradient(teacher[name])))
        for name, output in outputs.items()
    ]
    return tf.add_n(each)


def _mean_of_images(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.reshape(values, [tf.shape(values)[0], -1]), axis=1)
