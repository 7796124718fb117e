"""L1 and L2 regularization of kernels."""

from __future__ import annotations

import tensorflow as tf


def is_kernel(variable: tf.Variable) -> bool:
    """Return True if the last part of a variable's path is "kernel". Regularizers and weight decay
    act on kernels, not on biases and norms.
    """
    return variable.path.split("/")[-1] == "kernel"


def l1_of_kernels(variables: list[tf.Variable]) -> tf.Tensor:
    """Return the sum of the absolute values of all kernels, float32 scalar; its gradient at 0 is
    0.
    """
    return tf.add_n(
        [tf.reduce_sum(tf.abs(tf.cast(v, tf.float32))) for v in variables if is_kernel(v)]
    )


def l2_of_kernels(variables: list[tf.Variable]) -> tf.Tensor:
    """Return the sum of the squares of all kernels, float32 scalar."""
    return tf.add_n(
        [tf.reduce_sum(tf.square(tf.cast(v, tf.float32))) for v in variables if is_kernel(v)]
    )
