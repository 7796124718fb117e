"""Pieces of graph code: constants in host memory, calls of Python, and branches that seldom run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


def in_memory(values: np.ndarray | list[bytes]) -> tf.Tensor:
    """Return values as one tensor in host memory, shared by all graphs that read it.

    TensorFlow copies a NumPy array into each graph instead.
    """
    with tf.device("CPU:0"):
        return tf.constant(values)


def read_in_python(read: Callable[[int], bytes], record: tf.Tensor) -> tf.Tensor:
    """Call Python from a graph: the scalar string that `read` returns for a record number.

    `call_python` says what `read` may do.
    """
    return call_python(read, record, tf.TensorSpec([], tf.string))


def call_python(function: Callable[[Any], Any], value: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    """Call Python from a graph: the tensor of this shape and type that `function` returns.

    A DataError raised in `function` says what is wrong with the record; in a graph it surfaces as
    tf.errors.UnknownError. The function must give the same for the same value, a number or a
    string, and is called from many threads.
    """

    def call(given: Any) -> Any:
        # Bytes come as they are from a graph, and in an array without it.
        return function(given.item() if isinstance(given, np.ndarray | np.integer) else given)

    # Were it taken for stateful, TensorFlow would read one record at a time where it has to be
    # deterministic.
    return tf.ensure_shape(tf.numpy_function(call, [value], spec.dtype, stateful=False), spec.shape)


def noinline_branch(branch: Callable[[], Any]) -> Callable[[], Any]:
    """Make a branch of a `tf.cond` a function, which costs nothing where it isn't taken.

    TensorFlow makes other branches parts of the graph around them, and goes through all their
    operations even where they aren't taken.
    """
    function = tf.function(branch, autograph=False, experimental_attributes={"_noinline": True})
    # Without a graph around it, tracing it once more would be all that this does.
    return lambda: branch() if tf.executing_eagerly() else function()
