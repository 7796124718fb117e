"""Fields: comparison, padding and meaning of tensors of targets and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import tensorflow as tf


class Field(NamedTuple):
    """One tensor of targets or answers, whose first dimension is B images."""

    compare: Literal["exact", "close", "pixels", "counts"] = "close"
    """Rule by which two answers count as equal.

    exact: all values are equal. close: values are equal up to rounding. pixels: class numbers of
    pixels, of which a small fraction may differ at ties. counts: fractions computed from such class
    numbers.
    """
    padding: int | float | bytes | None = None
    """Padding value for smaller arrays if the images of a batch differ in size; None if all have
    the same size.
    """
    meaning: str = ""
    """Shape and content of an answer, for users of the artifact."""
    ranked_by: str = ""
    """Name of the answer [B, S] with descending scores, if this answer is [B, S, …] with an entry
    for each score. Entries with equal scores may be swapped.
    """
    first_of: str = ""
    """Name of the ranked answer [B, S] whose first entry is this answer, [B]."""


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
    """Pad `values` at the end of every dimension to at least the size `room`, int32 [rank]. Graph
    code.
    """
    beyond = tf.maximum(room - tf.shape(values), 0)
    return tf.pad(
        values,
        tf.stack([tf.zeros_like(beyond), beyond], 1),
        constant_values=tf.constant(field.padding, values.dtype),
    )
