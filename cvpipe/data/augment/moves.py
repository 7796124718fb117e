"""Moves of an image together with its annotations.

Each function takes and returns an example with an "image" [H, W, C]. Every kind of annotation
implements its own moves (`cvpipe.data.annotations.annotation`). Objects that are no longer visible
are dropped.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import tensorflow as tf

from cvpipe.config.augment.augmentation import Fill
from cvpipe.data.annotations import keep_objects, placed_kinds
from cvpipe.data.annotations.annotation import Change
from cvpipe.data.example import Example
from cvpipe.geometry.warp import sample, warp


def mirrored(example: Example, axis: int, applied: tf.Tensor) -> Example:
    """Mirror the example vertically (axis 0) or horizontally (axis 1) if `applied`, bool."""
    kinds = placed_kinds(example)
    placed = [key for kind in kinds for key in kind.placed if key in example]
    before = {key: example[key] for key in ("image", *placed)}

    def mirror() -> Example:
        turned = {"image": tf.reverse(example["image"], [axis])}
        for kind in kinds:
            turned |= kind.mirrored(example, axis)
        return turned

    return {**example, **tf.cond(applied, mirror, lambda: before)}


def moved(
    example: Example, image: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, *, drop: bool = True
) -> Example:
    """Return the example with an image that was scaled and moved.

    Args:
        example: the example before the change.
        image: the new image, of any size.
        scale, offset: [2], vertical and horizontal. The point p, in fractions of the old image,
            moves to p × scale + offset, in fractions of the new image.
        drop: False keeps objects that are no longer visible.
    """
    scale, offset = tf.cast(scale, tf.float64), tf.cast(offset, tf.float64)
    size = tf.shape(image)[:2]
    changes = [kind.moved(example, size, scale, offset) for kind in placed_kinds(example)]
    return _changed(example, image, changes, drop)


def cropped(
    example: Example,
    image: tf.Tensor,
    extent: tf.Tensor,
    corner: tf.Tensor,
    size: tf.Tensor,
    *,
    drop: bool = True,
) -> Example:
    """Return the example with a crop of its image.

    Args:
        example: the example before the change.
        image: the crop, resized or not.
        extent, corner, size: height and width [2] of the whole image, top left corner of the crop,
            and height and width of the crop, in pixels of the image or of a resized copy. The crop
            may extend beyond the image.
        drop: as in `moved`.
    """
    extent, corner, size = (tf.cast(pixels, tf.float64) for pixels in (extent, corner, size))
    return moved(example, image, extent / size, -corner / size, drop=drop)


def warped(example: Example, transform: tf.Tensor, fill: Fill) -> Example:
    """Apply an affine transform, float32 [8], to the example (`cvpipe.geometry.warp`).

    "image" becomes float32.
    """
    image = example["image"]
    extent = tf.shape(image)[:2]
    changes = [kind.warped(example, transform, extent, fill) for kind in placed_kinds(example)]
    return _changed(example, warp(image, transform, fill), changes)


def sampled(example: Example, y: tf.Tensor, x: tf.Tensor, fill: Fill) -> Example:
    """Resample the example at coordinates y and x, float32 [H, W] each. "image" becomes float32."""
    image = example["image"]
    changes = [kind.sampled(example, y, x, fill) for kind in placed_kinds(example)]
    return _changed(example, tf.ensure_shape(sample(image, y, x, fill), image.shape), changes)


def _changed(
    example: Example, image: tf.Tensor, changes: Iterable[Change], drop: bool = True
) -> Example:
    example, shown = {**example, "image": image}, []
    for change in changes:
        example |= change.tensors
        shown += [change.shown] if change.shown is not None else []
    if not (drop and shown):
        return example
    return keep_objects(example, functools.reduce(tf.logical_and, shown))
