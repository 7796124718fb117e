"""Graph code that is seldom or never run: what may fail, with an answer for when it does, and
branches that are seldom taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def attempt(load: Callable[..., Any], *args: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """What `load` returns and True, or, on any error of the graph, zeros of the same shapes and
    types and False.

    Works in `Dataset.map` and in a SavedModel; `load` must return tensors of known rank, and
    lengths that aren't known are then 0.
    """
    # Only inside a Dataset does TensorFlow turn an error of the graph into data.
    tried = tf.data.Dataset.from_tensors(args).map(tf.autograph.experimental.do_not_convert(load))
    zeros = tf.nest.map_structure(
        lambda spec: tf.zeros([length or 0 for length in spec.shape], spec.dtype),
        tried.element_spec,
    )
    done = tried.ignore_errors().map(
        lambda *loaded: (loaded if len(loaded) > 1 else loaded[0], True)
    )
    return (
        done.concatenate(tf.data.Dataset.from_tensors((zeros, False))).take(1).get_single_element()
    )


def called(branch: Callable[[], Any]) -> Callable[[], Any]:
    """The branch of a `tf.cond`, as a function that the graph calls where it is taken; otherwise it
    costs nothing.

    TensorFlow makes other branches parts of the graph around them, and goes through all their
    operations even where they aren't taken.
    """
    return tf.function(branch, autograph=False, experimental_attributes={"_noinline": True})
