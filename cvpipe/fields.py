"""The meaning of a tensor of targets or answers: how it is compared and how it is padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import tensorflow as tf


class Field(NamedTuple):
    """The meaning of one tensor of targets or answers, whose first dimension is B images."""

    compare: Literal["exact", "close", "pixels", "counts", "ranked"] = "close"
    """Comparison of two answers. exact: equal. close: equal up to rounding. pixels: labels of which
    a small share may differ, at ties. counts: shares that follow from such pixels. ranked: a list
    by falling score, where ties may change places; its scores are compared instead.
    """
    padding: int | float | bytes | None = None
    """Fills up smaller arrays where the images of a batch differ in size; None: all have one size.
    """
    meaning: str = ""
    """Shape and content of an answer, for those who ask an artifact."""


def concatenate_padded(arrays: Sequence[np.ndarray], field: Field) -> np.ndarray:
    """Concatenate arrays [B, …] along the first axis, padded with `field.padding` to one size."""
    if field.padding is None:
        return np.concatenate(arrays)
    room = np.max([array.shape[1:] for array in arrays], axis=0)
    around = [
        [(0, 0), *((0, most - length) for most, length in zip(room, array.shape[1:], strict=True))]
        for array in arrays
    ]
    return np.concatenate(
        [
            np.pad(array, sides, constant_values=field.padding)
            for array, sides in zip(arrays, around, strict=True)
        ]
    )


def pad_to(values: tf.Tensor, room: tf.Tensor, field: Field) -> tf.Tensor:
    """Pad `values` behind every dimension to at least `room`, int32 [their rank]. Graph code."""
    beyond = tf.maximum(room - tf.shape(values), 0)
    return tf.pad(
        values,
        tf.stack([tf.zeros_like(beyond), beyond], 1),
        constant_values=tf.constant(field.padding, values.dtype),
    )
