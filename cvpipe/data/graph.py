"""Parts of graph code: constants in host memory, calls of Python, and branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


def in_memory(values: np.ndarray | list[bytes]) -> tf.Tensor:
    """Return values as one tensor in host memory, shared by all graphs that read it.

    TensorFlow would copy a NumPy array into each graph.
    """
    with tf.device("CPU:0"):
        return tf.constant(values)


def read_in_python(read: Callable[[int], bytes], record: tf.Tensor) -> tf.Tensor:
    """Call `read` from a graph; return its bytes for a record number as a scalar string.

    The restrictions of `call_python` apply.
    """
    return call_python(read, record, tf.TensorSpec([], tf.string))


def call_python(function: Callable[[Any], Any], value: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    """Call `function` from a graph; return its result, a tensor of the given shape and type.

    `function` may raise a DataError about the record, which appears as tf.errors.UnknownError in a
    graph. It must be deterministic, and is called from many threads. `value` is a number or a
    string.
    """

    def call(given: Any) -> Any:
        # In a graph, bytes arrive as bytes; eagerly, in an array.
        return function(given.item() if isinstance(given, np.ndarray | np.integer) else given)

    # If the call were stateful, TensorFlow would read one record at a time in deterministic mode.
    return tf.ensure_shape(tf.numpy_function(call, [value], spec.dtype, stateful=False), spec.shape)


def noinline_branch(branch: Callable[[], Any]) -> Callable[[], Any]:
    """Wrap a branch of a `tf.cond` in a function that isn't inlined, for rarely taken branches.

    Such a branch costs nothing if it isn't taken. TensorFlow inlines other branches, and then
    visits all their operations even if they aren't taken.
    """
    function = tf.function(branch, autograph=False, experimental_attributes={"_noinline": True})
    # Eagerly, calling the function would only trace the branch once more.
    return lambda: branch() if tf.executing_eagerly() else function()


def choose(index: tf.Tensor, branches: Sequence[Callable[[], Any]]) -> Any:
    """Return the result of the branch with this index, as `tf.switch_case` does.

    Uses nested conditions. With op determinism, tf.data loads examples one at a time if the graph
    has a `Case` with a branch that may fail.

    Args:
        index: int scalar; an index out of range selects the last branch.
        branches: functions without arguments, at least one, with results of the same structure.
    """
    first, *others = branches
    if not others:
        return first()
    return tf.cond(tf.equal(index, 0), first, lambda: choose(index - 1, others))
