"""What becomes of a label mask when its image changes its shape.

An example for segmentation has "mask" uint8 [H, W, 1], the class of every pixel of the image as it
is, or IGNORED. Classes don't blend: a moved mask has the label of the nearest pixel everywhere, and
IGNORED where the image shows nothing of its own.
"""

from __future__ import annotations

import tensorflow as tf

from cvpipe.config.augment import Fill
from cvpipe.data.augment.warp import sample, warp
from cvpipe.data.sources import Example
from cvpipe.geometry.masks import IGNORED

_ROUNDING = 1e-6


def moved(example: Example, size: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> Example:
    """The mask of an image that was scaled and moved; an example without a mask is left alone.

    Args:
        example: with "mask", perhaps; "image" may be anything.
        size: int32 [2], the image's height and width now.
        scale, offset: float64 [2], down and across: what was at p is at p × scale + offset now, in
        fractions of the image then and now.
    """
    if "mask" not in example:
        return example
    mask = example["mask"]
    shown = mask
    for axis in (0, 1):
        length = tf.shape(mask)[axis]
        centres = (tf.range(size[axis], dtype=tf.float64) + 0.5) / tf.cast(size[axis], tf.float64)
        places = (centres - offset[axis]) / scale[axis] * tf.cast(length, tf.float64)
        # Halfway between two pixels, as when an image is halved, is the second's, however the
        # quotient is rounded.
        nearest = tf.cast(tf.floor(places + _ROUNDING), tf.int32)
        # One pixel of IGNORED on both sides stands for all that is outside.
        around = tf.pad(
            shown,
            [[1, 1] if axis == side else [0, 0] for side in range(3)],
            constant_values=IGNORED,
        )
        shown = tf.gather(around, tf.clip_by_value(nearest + 1, 0, length + 1), axis=axis)
    return {**example, "mask": tf.ensure_shape(shown, [None, None, 1])}


def warped(example: Example, transform: tf.Tensor, fill: Fill) -> Example:
    """The mask of an image that went through a projective transform, float32 [8], see `warp`; a
    mirrored border mirrors labels too.
    """
    if "mask" not in example:
        return example
    return {**example, "mask": warp(example["mask"], transform, fill, IGNORED, "nearest")}


def sampled(example: Example, y: tf.Tensor, x: tf.Tensor, fill: Fill) -> Example:
    """Return the mask of an image sampled at other places, float32 [H, W] each; see `sample`."""
    if "mask" not in example:
        return example
    return {**example, "mask": sample(example["mask"], y, x, fill, IGNORED, "nearest")}
