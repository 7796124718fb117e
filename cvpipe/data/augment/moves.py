"""What moves an image moves everything that has a place in it: objects as `boxes` says, a label
mask as `masks` does.
"""

from __future__ import annotations

import tensorflow as tf

from cvpipe.config.augment import Fill
from cvpipe.data.augment import boxes, masks
from cvpipe.data.augment.warp import sample, warp
from cvpipe.data.sources import Example


def mirrored(example: Example, axis: int, applied: tf.Tensor) -> Example:
    """The example mirrored top and bottom (axis 0) or left and right (axis 1) if that is `applied`,
    bool.
    """
    grids = {key: example[key] for key in ("image", "mask") if key in example}
    turned = tf.cond(
        applied,
        lambda: {key: tf.reverse(grid, [axis]) for key, grid in grids.items()},
        lambda: grids,
    )
    return {**boxes.mirrored(example, axis, applied), **turned}


def moved(example: Example, image: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> Example:
    """The example with an image that was scaled and moved.

    Args:
        example: as it was.
        image: what its image has become, of any size.
        scale, offset: [2], down and across: what was at p is at p × scale + offset now, in
        fractions of the image then and now.
    """
    scale, offset = tf.cast(scale, tf.float64), tf.cast(offset, tf.float64)
    return {
        **masks.moved(boxes.moved(example, scale, offset), tf.shape(image)[:2], scale, offset),
        "image": image,
    }


def cropped(
    example: Example, image: tf.Tensor, extent: tf.Tensor, corner: tf.Tensor, size: tf.Tensor
) -> Example:
    """`moved` for the part of an image that begins at `corner` and has `size`; what lies outside
    the image is part of no object.

    Args:
        example: as it was.
        image: what shows that part, with as many pixels or resized.
        extent, corner, size: numbers [2], down and across, in pixels of the whole image, or of what
        it would be after resizing.
    """
    extent, corner, size = (tf.cast(pixels, tf.float64) for pixels in (extent, corner, size))
    return moved(example, image, extent / size, -corner / size)


def warped(example: Example, transform: tf.Tensor, fill: Fill) -> Example:
    """The example through an affine transform, float32 [8], see `warp`. "image" becomes float32."""
    image = example["image"]
    around = boxes.warped(example, transform, tf.shape(image)[:2])
    return {**masks.warped(around, transform, fill), "image": warp(image, transform, fill)}


def sampled(example: Example, y: tf.Tensor, x: tf.Tensor, fill: Fill) -> Example:
    """The example looked up at other places, float32 [H, W] each, see `sample`; boxes stay. "image"
    becomes float32.
    """
    image = example["image"]
    return {
        **masks.sampled(example, y, x, fill),
        "image": tf.ensure_shape(sample(image, y, x, fill), image.shape),
    }
