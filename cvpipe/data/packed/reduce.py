"""Reduction of images to a longest side, and re-encoding. Graph code."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from cvpipe.data.annotations import checked, placed_kinds, upright
from cvpipe.data.annotations.frame import KEYS
from cvpipe.data.augment.moves import moved
from cvpipe.data.decode import decode_image
from cvpipe.data.example import Example
from cvpipe.data.header import format_of
from cvpipe.geometry.pixels import resize_and_place

# Default quality of reduced JPEG files.
QUALITY = 95


class Reduction(NamedTuple):
    """Changes to images of packed data."""

    longest_side: int | None = None
    """Maximum of the longer side in pixels; None keeps sizes."""
    quality: int | None = None
    """JPEG quality for re-encoding every file. None keeps files that aren't reduced, and encodes
    reduced JPEG files with QUALITY and others as PNG.
    """

    @property
    def changes_nothing(self) -> bool:
        """Return True if images stay as they are."""
        return self.longest_side is None and self.quality is None


def reduced(example: Example, reduction: Reduction) -> Example:
    """Return the example with a reduced image and its annotations.

    Annotations then refer to the upright image. Annotations with positions keep the size of the
    original image as a frame (`frame.py`), so areas still refer to the original image.

    Args:
        example: as its source reads it.

    Returns:
        The same entries, and those of `frame.KEYS` if annotations have positions.

    Raises:
        tf.errors.InvalidArgumentError: the image can't be decoded, or an annotation doesn't fit it.
    """
    if reduction.changes_nothing:
        return example
    example = with_frame(example)
    if "bytes" not in example:
        return _reduced_array(example, reduction)
    image = checked(example, decode_image(example["bytes"], 3))
    changed = tf.constant(reduction.quality is not None)
    if reduction.longest_side is not None:
        changed |= tf.reduce_max(tf.shape(image)[:2]) > reduction.longest_side

    def encoded() -> Example:
        small = _reduced(example, image, reduction)
        is_jpeg = format_of(example["bytes"]) == 0
        quality = reduction.quality or QUALITY
        file = _encoded(small.pop("image"), is_jpeg | (reduction.quality is not None), quality)
        return {**small, "bytes": file}

    return _cond(changed, encoded, example)


def with_frame(example: Example) -> Example:
    """Return the example with the entries of a frame, if annotations have positions.

    The new entries have the values that are assumed for examples without a frame.
    """
    if not placed_kinds(example) or KEYS[0] in example:
        return example
    # Without frames, objects refer to the stored image, and masks to the upright image.
    is_upright = not any(kind.placed and kind.per_object for kind in placed_kinds(example))
    values = (tf.zeros([2], tf.int64), tf.constant(is_upright))
    return {**example, **dict(zip(KEYS, values, strict=True))}


def _reduced_array(example: Example, reduction: Reduction) -> Example:
    image = checked(example, example["image"])
    if reduction.longest_side is None:
        return example
    is_larger = tf.reduce_max(tf.shape(image)[:2]) > reduction.longest_side
    # Reduced images may have any size.
    shown = {**example, "image": tf.ensure_shape(image, [None, None, image.shape[-1]])}
    return _cond(is_larger, lambda: _reduced(example, image, reduction), shown)


def _cond(applied: tf.Tensor, change: object, example: Example) -> Example:
    changed: Example = tf.cond(applied, change, lambda: dict(example))
    return changed


def _reduced(example: Example, image: tf.Tensor, reduction: Reduction) -> Example:
    """Return the upright example with "image", uint8, instead of a file."""
    extent = tf.shape(image)[:2]
    frame = {}
    if KEYS[0] in example:
        frame = dict(zip(KEYS, (tf.cast(extent, tf.int64), tf.constant(True)), strict=True))
    turned = upright({**example}, lambda: extent)
    turned.pop("bytes", None)
    size = _reduced_size(extent, reduction.longest_side)
    small = moved({**turned, "image": image}, _resized(image, size), [1, 1], [0, 0], drop=False)
    # All branches of the graph must return the same static shape.
    small["image"] = tf.ensure_shape(small["image"], [None, None, image.shape[-1]])
    return {**small, **frame}


def _reduced_size(extent: tf.Tensor, longest_side: int | None) -> tf.Tensor:
    """Return height and width, int32 [2], reduced to the longest side."""
    if longest_side is None:
        return extent
    sides = tf.cast(extent, tf.float64)
    scale = tf.minimum(longest_side / tf.reduce_max(sides), 1.0)
    return tf.maximum(tf.cast(tf.round(sides * scale), tf.int32), 1)


def _resized(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    scale = tf.cast(size, tf.float32) / tf.cast(tf.shape(image)[:2], tf.float32)
    resized = resize_and_place(image, size, scale, tf.zeros([2]))
    # Resizing to the same size would still change pixels.
    is_same = tf.reduce_all(size == tf.shape(image)[:2])
    return tf.cond(is_same, lambda: image, lambda: tf.saturate_cast(tf.round(resized), tf.uint8))


def _encoded(image: tf.Tensor, as_jpeg: tf.Tensor, quality: int) -> tf.Tensor:
    """Encode an image, uint8 [H, W, 3], with one channel if it has no color."""
    is_gray = tf.reduce_all(image == image[..., :1])

    def jpeg(pixels: tf.Tensor, kind: str) -> tf.Tensor:
        return tf.io.encode_jpeg(pixels, kind, quality)

    return tf.cond(
        as_jpeg,
        lambda: tf.cond(
            is_gray, lambda: jpeg(image[..., :1], "grayscale"), lambda: jpeg(image, "rgb")
        ),
        lambda: tf.cond(
            is_gray, lambda: tf.io.encode_png(image[..., :1]), lambda: tf.io.encode_png(image)
        ),
    )
