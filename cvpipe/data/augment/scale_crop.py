"""Random crops of randomly resized images, optionally around rare classes of a mask."""

from __future__ import annotations

import tensorflow as tf

from cvpipe.config.augment.crops import BalancedScaleCrop, ScaleCrop
from cvpipe.data.augment.moves import cropped
from cvpipe.data.augment.zoom import between_logs
from cvpipe.data.example import Example
from cvpipe.data.graph import noinline_branch
from cvpipe.geometry.masks import IGNORED
from cvpipe.geometry.pixels import mean_color, resize_and_place


def scale_crop(example: Example, seed: tf.Tensor, op: ScaleCrop, size: tuple[int, int]) -> Example:
    """Resize by a random factor and crop `size` at a random place. "image" becomes float32
    [*size, C].

    Factors are log-uniform. A resized image smaller than the crop is placed at random on a
    background of its mean color; the border of a mask is IGNORED. With probability `op.balance`, a
    class is drawn uniformly among those in the mask, then one of its pixels; this pixel lies in the
    middle half of the crop, or as near to the middle half as the image's edges allow.
    """
    image, extent = example["image"], tf.cast(tf.shape(example["image"])[:2], tf.float64)
    # Class and pixel need their own seed, because a seed always draws the same numbers.
    seed, pixel_seed = tf.unstack(tf.random.split(seed))
    draws = tf.random.stateless_uniform([4], seed, dtype=tf.float64)
    resized = tf.maximum(tf.round(extent * between_logs(*op.scale, draws[0])), 1)
    room = resized - size
    low, high = tf.minimum(room, 0), tf.maximum(room, 0)
    corner = low + tf.floor(draws[1:3] * (high - low + 1))
    balance = op.balance if isinstance(op, BalancedScaleCrop) else 0.0
    if balance and "mask" in example:

        def around_a_class() -> tf.Tensor:
            place = random_pixel(example["mask"], pixel_seed) * resized / extent
            return tf.clip_by_value(tf.round(place - (0.25 + 0.5 * draws[1:3]) * size), low, high)

        corner = tf.cond(draws[3] < balance, noinline_branch(around_a_class), lambda: corner)
    pixels = _resized_crop(image, resized, corner, size)
    return cropped(example, pixels, resized, corner, tf.constant(size))


def random_pixel(mask: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draw a class uniformly among those in a mask, uint8 [H, W, 1], then one of its pixels.
    Returns the pixel's center, float64 [2].

    If all pixels are IGNORED, any pixel is drawn.
    """
    draws = tf.random.stateless_uniform([2], seed, dtype=tf.float64)
    counts = tf.math.bincount(tf.reshape(tf.cast(mask, tf.int32), [-1]), minlength=IGNORED + 1)
    shown = tf.where(counts[:IGNORED] > 0)[:, 0]
    turn = tf.cast(draws[0] * tf.cast(tf.size(shown), tf.float64), tf.int32)
    label = tf.concat([shown, [IGNORED]], 0)[turn]
    of_class = mask[..., 0] == tf.cast(label, tf.uint8)
    # Count row by row, because a list of the class's pixels would take 16 times the memory of the
    # mask.
    in_row = tf.math.count_nonzero(of_class, 1)
    ends = tf.cumsum(in_row)
    rank = tf.cast(draws[1] * tf.cast(ends[-1], tf.float64), tf.int64)
    row = tf.searchsorted(ends, [rank], side="right")[0]
    column = tf.where(of_class[row])[:, 0][rank - ends[row] + in_row[row]]
    return tf.stack([tf.cast(row, tf.float64), tf.cast(column, tf.float64)]) + 0.5


def _resized_crop(
    image: tf.Tensor, resized: tf.Tensor, corner: tf.Tensor, size: tuple[int, int]
) -> tf.Tensor:
    """Crop `size` at `corner` from an image resized to `resized`, pixels [2] each. Returns float32
    [*size, C].
    """
    # Like tf.image.resize with antialias=True, but only the crop is computed.
    extent = tf.cast(tf.shape(image)[:2], tf.float64)
    crop = resize_and_place(image, size, resized / extent, -corner)

    def bordered() -> tf.Tensor:
        places = [
            corner[axis] + tf.range(length, dtype=tf.float64) for axis, length in enumerate(size)
        ]
        rows, columns = (
            (place >= 0) & (place < resized[axis]) for axis, place in enumerate(places)
        )
        return tf.where((rows[:, tf.newaxis] & columns)[..., tf.newaxis], crop, mean_color(image))

    is_smaller = tf.reduce_any(resized < size)
    return tf.ensure_shape(tf.cond(is_smaller, bordered, lambda: crop), [*size, image.shape[-1]])
