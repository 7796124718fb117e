"""Losses per example, from logits. Dimensions: B examples, K classes."""

from __future__ import annotations

import tensorflow as tf


def softmax_cross_entropy(logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float = 0.0) -> tf.Tensor:
    """Cross-entropy between softmax(logits) and one-hot labels, smoothed (Szegedy et al. 2015, section 7).

    Args:
        logits: float32 [B, K].
        labels: int32 [B] in 0…K−1.
        label_smoothing: share in [0, 1) of each label spread evenly over all K classes.

    Returns:
        float32 [B], in nats.
    """
    classes = logits.shape[-1]
    targets = tf.one_hot(labels, classes, on_value=1 - label_smoothing + label_smoothing / classes, off_value=label_smoothing / classes)
    return tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)


def is_kernel(variable: tf.Variable) -> bool:
    """Whether a variable's last name is "kernel": what regularizers and weight decay act on, unlike biases and norms."""
    return variable.path.split("/")[-1] == "kernel"


def l2_of_kernels(variables: list[tf.Variable]) -> tf.Tensor:
    """The sum of squares of all kernels, float32 scalar."""
    return tf.add_n([tf.reduce_sum(tf.square(tf.cast(v, tf.float32))) for v in variables if is_kernel(v)])
