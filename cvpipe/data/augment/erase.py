"""Random rectangles that cover parts of an image. Annotations of covered objects are kept."""

from __future__ import annotations

import tensorflow as tf

from cvpipe.config.augment.color import Cutout, Erase
from cvpipe.data.example import Example
from cvpipe.geometry.pixels import mean_canvas, paste


def erase(example: Example, seed: tf.Tensor, op: Erase) -> Example:
    """Cover a random rectangle with the given probability (random erasing, Zhong et al. 2017,
    algorithm 1).

    Areas are uniform. Aspect ratios are log-uniform over the part of `op.aspect` for which the
    rectangle fits into the image; if no ratio fits, the nearest ratio is taken. "image" is uint8 or
    float32 [H, W, C] in 0…255 and keeps its type.
    """
    image = example["image"]
    # The noise needs its own seed, because a seed always draws the same numbers.
    seed, noise_seed = tf.unstack(tf.random.split(seed))
    draws = tf.random.stateless_uniform([5], seed, dtype=tf.float64)

    def erased() -> tf.Tensor:
        limits = tf.cast(tf.shape(image)[:2], tf.float64)
        extent = _extent(limits, op, draws[1], draws[2])
        height, width = tf.unstack(tf.cast(extent, tf.int32))
        top, left = tf.unstack(tf.cast(draws[3:] * (limits - extent + 1), tf.int32))
        match op.fill:
            case "zeros":
                cover = tf.zeros([height, width, image.shape[-1]], image.dtype)
            case "mean":
                cover = mean_canvas(image, height, width)
            case "noise":
                cover = _noise(noise_seed, height, width, image)
        return paste(image, cover, top, left)

    return {**example, "image": tf.cond(draws[0] < op.probability, erased, lambda: image)}


def cutout(example: Example, seed: tf.Tensor, op: Cutout) -> Example:
    """Cover a square around a random pixel, clipped at the image's edges (DeVries and Taylor 2017,
    section 3).

    The square has the mean color of the image. The paper uses zeros, which are the mean of its
    normalized images. "image" is uint8 or float32 [H, W, C] in 0…255 and keeps its type.
    """
    image = example["image"]
    limits = tf.shape(image)[:2]
    draws = tf.random.stateless_uniform([2], seed, dtype=tf.float64)
    side = tf.cast(tf.round(op.size * tf.cast(tf.reduce_min(limits), tf.float64)), tf.int32)
    corner = tf.cast(draws * tf.cast(limits, tf.float64), tf.int32) - side // 2
    top, left = tf.unstack(tf.maximum(corner, 0))
    bottom, right = tf.unstack(tf.minimum(corner + side, limits))
    return {
        **example,
        "image": paste(image, mean_canvas(image, bottom - top, right - left), top, left),
    }


def _extent(
    limits: tf.Tensor, op: Erase, area_draw: tf.Tensor, aspect_draw: tf.Tensor
) -> tf.Tensor:
    """Return height and width of the rectangle in whole pixels, float64 [2], at least 1."""
    share = op.area[0] + (op.area[1] - op.area[0]) * area_draw
    # The paper draws until a rectangle fits. That favors small areas and may never end.
    square = limits[1] / limits[0]
    low, high = (
        tf.math.log(
            tf.clip_by_value(tf.constant(aspect, tf.float64), square * share, square / share)
        )
        for aspect in op.aspect
    )
    aspect = tf.exp(low + (high - low) * aspect_draw)
    area = share * tf.reduce_prod(limits)
    return tf.clip_by_value(tf.round(tf.sqrt(tf.stack([area / aspect, area * aspect]))), 1, limits)


def _noise(seed: tf.Tensor, height: tf.Tensor, width: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Return uniform integers in 0…255, [height, width, C], with the type of `like`."""
    values = height * width * like.shape[-1]
    # Four values from each random number, because drawing takes most of the time.
    numbers = tf.random.stateless_uniform([-(-values // 4)], seed, None, None, tf.uint32)
    noise = tf.reshape(tf.bitcast(numbers, tf.uint8), [-1])[:values]
    return tf.cast(tf.reshape(noise, [height, width, like.shape[-1]]), like.dtype)
