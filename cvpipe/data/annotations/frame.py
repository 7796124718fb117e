"""Frames of annotations: coordinates refer to a photo as it is stored, or to the upright photo.

Some labeling tools rotate a photo by its Exif orientation before people draw on it, others don't.
The image size stated in the annotation file shows which of the two applies. An example has
"frame_size" int64 [2], the stated height and width, or 0 if they aren't stated. "frame_upright",
bool, is True if coordinates refer to the upright photo. `frame_upright` is used if no size is
stated, or if the size fits both frames, as with squares and rotations by 180°. Only aspect ratios
are compared, because annotations may have been made on an enlarged or reduced copy.

Dimensions: R records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.data.annotations.columns import Columns
from cvpipe.data.example import Example
from cvpipe.data.exif import stored_orientation
from cvpipe.data.graph import in_memory
from cvpipe.data.orientation import turns

KEYS = ("frame_size", "frame_upright")
# Longer than a side of any image; the square still fits int64.
_LARGEST_SIDE = 2**30


class Frames(NamedTuple):
    """The frames of all records."""

    sizes: np.ndarray
    """int64 [R, 2]: stated height and width; 0 where none are stated."""
    upright: np.ndarray
    """bool [R]: True if coordinates refer to the upright image unless the size shows otherwise."""

    def first(self, records: int) -> Frames:
        """Return the frames of the first records."""
        return Frames(self.sizes[:records], self.upright[:records])

    def tensors(self) -> Example:
        """Return the tensors of all records, in host memory."""
        return {key: in_memory(column) for key, column in zip(KEYS, self, strict=True)}


def make_frames(sizes: np.ndarray, upright: np.ndarray | bool) -> Frames:
    """Return frames of the stated sizes, [R, 2], rounded and clipped to valid values."""
    sides = np.clip(np.round(np.asarray(sizes, np.float64)), 0, _LARGEST_SIDE)
    sides = sides.reshape(-1, 2).astype(np.int64)
    return Frames(sides, np.broadcast_to(np.asarray(upright, bool), len(sides)))


def join_frames(
    parts: Sequence[Frames | None], sizes: Sequence[int], upright: bool
) -> Frames | None:
    """Join the frames of the first `sizes` records of each part; None if no part has any.

    `upright` is used for parts without frames.
    """
    if all(part is None for part in parts):
        return None
    known = [
        part.first(size) if part else make_frames(np.zeros([size, 2]), upright)
        for part, size in zip(parts, sizes, strict=True)
    ]
    return Frames(*map(np.concatenate, zip(*known, strict=True)))


def frames_of_columns(columns: Columns) -> Frames | None:
    """Return the frames of packed records; None if they have none."""
    return Frames(*(columns.records[key] for key in KEYS)) if KEYS[0] in columns.records else None


def annotation_orientation(example: Example, extent: tf.Tensor) -> tf.Tensor:
    """Return the Exif orientation to apply to an example's annotations.

    Args:
        example: with its image as "bytes", or as an array, which is upright.
        extent: int32 [2], height and width of the upright image.

    Returns:
        int32 scalar in 1…8: the file's orientation, or 1 if annotations refer to the upright image.
    """
    if "bytes" not in example:
        return tf.constant(1)
    orientation = stored_orientation(example["bytes"])
    if "frame_size" not in example:
        return orientation
    off_upright, off_stored = _misfits(example, extent, orientation)
    unclear = off_upright == off_stored
    is_upright = tf.where(unclear, example["frame_upright"], off_upright < off_stored)
    return tf.where(is_upright, 1, orientation)


def frame_check(example: Example, extent: tf.Tensor) -> tf.Operation:
    """Return an assertion that the stated size has the aspect ratio of the image.

    Takes the arguments of `annotation_orientation`.
    """
    stated = example["frame_size"]
    orientation = stored_orientation(example["bytes"]) if "bytes" in example else tf.constant(1)
    # Rounding the sides of a reduced copy to whole pixels may change one of them by a pixel.
    tolerance = tf.maximum(tf.reduce_sum(stated), tf.cast(tf.reduce_sum(extent), tf.int64))
    fits = tf.reduce_min(_misfits(example, extent, orientation)) <= tolerance
    found = ["the image has", extent[1], "x", extent[0], "pixels, but its annotations are for an"]
    return tf.debugging.Assert(fits, [*found, "image of", stated[1], "x", stated[0], "pixels"])


def _misfits(
    example: Example, extent: tf.Tensor, orientation: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the differences of the stated aspect ratio from the ratios of the upright and of the
    stored image: int64 scalars, 0 if the ratios are equal or no size is stated.
    """
    height, width = tf.unstack(tf.cast(extent, tf.int64))
    stated_height, stated_width = tf.unstack(example["frame_size"])
    as_upright = tf.abs(stated_height * width - stated_width * height)
    on_its_side = tf.abs(stated_height * height - stated_width * width)
    return as_upright, tf.where(turns(orientation)[0], on_its_side, as_upright)
