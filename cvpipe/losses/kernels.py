"""What regularizers add to the loss: the size of kernels."""

from __future__ import annotations

import tensorflow as tf


def is_kernel(variable: tf.Variable) -> bool:
    """Whether a variable's last name is "kernel": what regularizers and weight decay act on, unlike
    biases and norms.
    """
    return variable.path.split("/")[-1] == "kernel"


def l1_of_kernels(variables: list[tf.Variable]) -> tf.Tensor:
    """The sum of the absolute values of all kernels, float32 scalar; its gradient at 0 is 0."""
    return tf.add_n(
        [tf.reduce_sum(tf.abs(tf.cast(v, tf.float32))) for v in variables if is_kernel(v)]
    )


def l2_of_kernels(variables: list[tf.Variable]) -> tf.Tensor:
    """The sum of squares of all kernels, float32 scalar."""
    return tf.add_n(
        [tf.reduce_sum(tf.square(tf.cast(v, tf.float32))) for v in variables if is_kernel(v)]
    )
