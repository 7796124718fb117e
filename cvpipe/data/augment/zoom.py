"""Random changes of the size of objects: zooming out, cropping around objects, and both.

Dimensions: n objects, P patches tried.
"""

from __future__ import annotations

import math

import tensorflow as tf

from cvpipe.config.augment.crops import Expand, IouCrop, ScaleJitter
from cvpipe.data.annotations import keep_objects
from cvpipe.data.augment.moves import cropped, moved
from cvpipe.data.example import Example
from cvpipe.geometry.boxes import iou
from cvpipe.geometry.pixels import mean_canvas, mean_color, paste, resize_and_place

TRIALS = 40
"""Number of patches tried for each minimum IoU, as in torchvision."""


def expand(example: Example, seed: tf.Tensor, op: Expand) -> Example:
    """Zoom out with the given probability: place the image at random on a canvas up to `op.ratio`
    times as high and wide.

    Ratios are uniform, as in SSD (Liu et al. 2015, section 3.6). "image" is uint8 or float32
    [H, W, C] and keeps its type.
    """
    image, extent = example["image"], tf.shape(example["image"])[:2]
    draws = tf.random.stateless_uniform([4], seed, dtype=tf.float64)
    # A ratio of 1, which changes nothing, stands for "not applied".
    ratio = tf.where(draws[0] < op.probability, 1 + (op.ratio - 1) * draws[1], 1)
    canvas = tf.cast(tf.round(tf.cast(extent, tf.float64) * ratio), tf.int32)
    corner = tf.cast(draws[2:] * tf.cast(canvas - extent + 1, tf.float64), tf.int32)

    def expanded() -> tf.Tensor:
        behind = tf.ensure_shape(
            mean_canvas(image, canvas[0], canvas[1]), [None, None, image.shape[-1]]
        )
        return paste(behind, image, corner[0], corner[1])

    larger = tf.cond(ratio > 1, expanded, lambda: image)
    return cropped(
        example, tf.ensure_shape(larger, [None, None, image.shape[-1]]), extent, -corner, canvas
    )


def iou_crop(example: Example, seed: tf.Tensor, op: IouCrop) -> Example:
    """Crop a patch of the image around some of its objects (Liu et al. 2015, section 2.2).

    The options are the whole image, any patch, and each minimum IoU in `op.ious`; all are equally
    likely. The first suitable one of `TRIALS` random patches is taken. If none is suitable, another
    option is drawn, with new patches, as in torchvision's RandomIoUCrop. A suitable patch has an
    aspect ratio in `op.aspect`, and contains the center of an object with which it has the minimum
    IoU; without objects the aspect ratio suffices. Objects with their center inside are kept.
    "image" is [H, W, C] of any type; "boxes" are required.
    """
    image, boxes, extent = example["image"], example["boxes"], tf.shape(example["image"])[:2]
    limits = tf.cast(extent, tf.float64)

    def draw(attempt: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, ...]:
        draws = tf.random.stateless_uniform(
            [1 + 4 * TRIALS], tf.random.fold_in(seed, attempt), dtype=tf.float64
        )
        option = tf.cast(draws[0] * (len(op.ious) + 2), tf.int32)
        # The last two options: any patch, and the whole image.
        least = tf.gather(tf.constant([*op.ious, 0.0, 0.0], tf.float32), option)
        is_whole = option == len(op.ious) + 1
        corners, sizes = _patches(tf.reshape(draws[1:], [TRIALS, 4]), limits, op.scale)
        suits = _suits(corners, sizes, limits, boxes, least, op.aspect)
        first = tf.argmax(tf.cast(suits, tf.int32))
        corner = tf.where(is_whole, tf.zeros_like(limits), corners[first])
        size = tf.where(is_whole, limits, sizes[first])
        return attempt + 1, is_whole | tf.reduce_any(suits), is_whole, corner, size

    # The whole image is always suitable: with the default options the loop takes 7 attempts or
    # fewer on average.
    nothing = (tf.constant(False), tf.constant(False), tf.zeros_like(limits), limits)
    *_, is_whole, corner, size = tf.while_loop(
        lambda attempt, found, *_: ~found, draw, (tf.constant(0), *nothing)
    )
    inside = _center_inside(_fractions(corner, size, limits)[tf.newaxis], boxes)[0]
    corner, size = tf.cast(corner, tf.int32), tf.cast(size, tf.int32)
    patch = image[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]]
    patch = tf.ensure_shape(patch, [None, None, image.shape[-1]])
    kept = keep_objects(example, is_whole | inside)
    shown = cropped(kept, patch, extent, corner, size, drop=False)
    return {**shown, "boxes": _boxes_inside(kept["boxes"], extent, corner, size)}


def scale_jitter(example: Example, seed: tf.Tensor, op: ScaleJitter) -> Example:
    """Resize by a random factor and aspect ratio, then crop or pad at a random place to the
    original size. "image" becomes float32.

    Factors and aspect ratios are log-uniform; padding has the image's mean color.
    """
    image, extent = example["image"], tf.cast(tf.shape(example["image"])[:2], tf.float64)
    draws = tf.random.stateless_uniform([4], seed, dtype=tf.float64)
    scale, aspect = (
        between_logs(*limits, draw)
        for limits, draw in ((op.scale, draws[0]), (op.aspect, draws[1]))
    )
    # The size is rounded to whole pixels. Along each axis, the shorter of image and canvas lies
    # inside the longer one.
    resized = tf.maximum(
        tf.round(extent * scale * tf.stack([1 / tf.sqrt(aspect), tf.sqrt(aspect)])), 1
    )
    corner = tf.round(draws[2:] * (extent - resized))
    color = mean_color(image)
    # Subtract the mean color, because pixels from outside the image become 0.
    around_zero = tf.cast(image, tf.float32) - color
    jittered = resize_and_place(around_zero, tf.shape(image)[:2], resized / extent, corner)
    pixels = tf.clip_by_value(jittered + color, 0, 255)
    return moved(example, tf.ensure_shape(pixels, image.shape), resized / extent, corner / extent)


def between_logs(low: float, high: float, share: tf.Tensor) -> tf.Tensor:
    """Interpolate on a logarithmic scale: low for a share of 0, high for 1."""
    return tf.exp(math.log(low) + (math.log(high) - math.log(low)) * share)


def _boxes_inside(
    boxes: tf.Tensor, extent: tf.Tensor, corner: tf.Tensor, size: tf.Tensor
) -> tf.Tensor:
    """Return boxes [n, 4] as fractions of a patch, clipped. Pixels are subtracted before the
    division, which is more exact than a scale and an offset.
    """
    extent, corner, size = (
        tf.tile(tf.cast(pixels, tf.float32), [2]) for pixels in (extent, corner, size)
    )
    return tf.clip_by_value((boxes * extent - corner) / size, 0, 1)


def _patches(
    draws: tf.Tensor, limits: tf.Tensor, scale: tuple[float, float]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return corners and sizes of patches inside an image, in whole pixels, float64 [P, 2] each.
    `limits` is the image's size, float64 [2]; `draws` are float64 [P, 4] in [0, 1).
    """
    sizes = tf.maximum(tf.round(limits * (scale[0] + (scale[1] - scale[0]) * draws[:, :2])), 1)
    return tf.floor(draws[:, 2:] * (limits - sizes + 1)), sizes


def _suits(
    corners: tf.Tensor,
    sizes: tf.Tensor,
    limits: tf.Tensor,
    boxes: tf.Tensor,
    least: tf.Tensor,
    aspect: tuple[float, float],
) -> tf.Tensor:
    """Return bool [P]: True for patches with an allowed aspect ratio that contain the center of an
    object with an IoU of at least `least`; without objects the aspect ratio decides.
    """
    patches = _fractions(corners, sizes, limits)
    reached = _center_inside(patches, boxes) & (iou(patches, boxes) >= least)
    aspects = sizes[:, 1] / sizes[:, 0]
    is_allowed = (aspects >= aspect[0]) & (aspects <= aspect[1])
    return is_allowed & (tf.reduce_any(reached, 1) | (tf.shape(boxes)[0] == 0))


def _fractions(corners: tf.Tensor, sizes: tf.Tensor, limits: tf.Tensor) -> tf.Tensor:
    """Convert patches from pixels to fractions of the image, float32 [..., 4]."""
    sides = tf.concat([corners, corners + sizes], -1)
    return tf.cast(sides / tf.tile(limits, [2]), tf.float32)


def _center_inside(patches: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Return bool [P, n]: True if the center of box n is in patch P, for boxes [n, 4]."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return tf.reduce_all(
        (centers > patches[:, tf.newaxis, :2]) & (centers < patches[:, tf.newaxis, 2:]), -1
    )
