"""Images that differ from the others: dark, bright, blank, blurry, of an odd shape or size.

Dimensions: N images, S = look_alikes.SIDE.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvpipe.data.look_alikes import LEAST_CONTRAST, SIDE

SHARPNESS_SIDE = 256
"""Longest side, in pixels, at which sharpness is measured. Larger images are reduced to this size,
at which a person would look at them.
"""
DARK, BRIGHT = 0.2, 0.85
"""An image is dark if 95% of its pixels are below DARK, and bright if 95% are above BRIGHT, on a
scale from 0 to 1.
"""
BLURRY = 3.5
"""An image is blurry if the logarithm of its sharpness is more than this number of standard
deviations below the median, and its sharpness less than half of the median.
"""
ASPECT, SIZE = 2.5, 4.0
"""An image is odd if its height / width differs from the median by more than a factor of ASPECT, or
the square root of its number of pixels by more than a factor of SIZE.
"""
BLOCK = 4096
MEANINGS = {
    "blank": "blank: one color all over",
    "dark": "dark: hardly a bright pixel",
    "bright": "bright: hardly a dark pixel",
    "blurry": "blurry: far fewer fine details than the others",
    "odd aspect": "odd aspect: much taller or wider than the others",
    "odd size": "odd size: many more or fewer pixels than the others",
}


def measure_image(image: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the "thumbnail", uint8 [S, S], and "sharpness", float32, of an image uint8 [H, W, C].
    Graph code.
    """
    gray = tf.reduce_mean(tf.cast(image, tf.float32), axis=-1, keepdims=True)
    small = tf.image.resize(gray, [SIDE, SIDE], antialias=True)
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = tf.minimum(SHARPNESS_SIDE / tf.reduce_max(size), 1.0)
    seen = tf.image.resize(gray, tf.maximum(tf.cast(size * scale, tf.int32), 3), antialias=True)
    # Sharpness is the response of a Laplacian divided by the contrast, because the response grows
    # with the contrast.
    middle = seen[1:-1, 1:-1]
    around = seen[:-2, 1:-1] + seen[2:, 1:-1] + seen[1:-1, :-2] + seen[1:-1, 2:]
    details, contrast = (tf.math.reduce_std(values) for values in (4 * middle - around, seen))
    return {
        "thumbnail": tf.cast(tf.clip_by_value(tf.round(small[..., 0]), 0, 255), tf.uint8),
        "sharpness": tf.math.divide_no_nan(details, contrast),
    }


def find_odd(
    thumbnails: np.ndarray, sharpness: np.ndarray, sizes: np.ndarray, chosen: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the images of each kind of `MEANINGS`, int64 positions.

    Args:
        thumbnails: uint8 [N, S, S].
        sharpness: float32 [N].
        sizes: int32 [N, 2].
        chosen: int64 [n], the images to judge; sharpness and size are compared with their medians.
    """
    if not len(chosen):
        return {kind: np.zeros(0, np.int64) for kind in MEANINGS}
    sharpness, sizes = sharpness[chosen], sizes[chosen]
    blocks = [
        _light(thumbnails[chosen[start : start + BLOCK]]) for start in range(0, len(chosen), BLOCK)
    ]
    low, high, contrast = np.concatenate(blocks, axis=1)
    blank = contrast < LEAST_CONTRAST
    detail = np.log(np.maximum(sharpness, 1e-6))
    middle = np.median(detail[~blank]) if (~blank).any() else 0.0
    # For normally distributed numbers, 1.4826 median absolute deviations equal one standard
    # deviation.
    spread = 1.4826 * np.median(np.abs(detail[~blank] - middle)) if (~blank).any() else 0.0
    least = middle - max(BLURRY * spread, np.log(2))
    height, width = np.maximum(sizes.astype(np.float64), 1).T
    is_kind = {
        "blank": blank,
        "dark": ~blank & (high < DARK * 255),
        "bright": ~blank & (low > BRIGHT * 255),
        "blurry": ~blank & (detail < least),
        "odd aspect": _far(height / width, ASPECT),
        "odd size": _far(np.sqrt(height * width), SIZE),
    }
    return {kind: chosen[is_kind[kind]] for kind in MEANINGS}


def _light(thumbnails: np.ndarray) -> np.ndarray:
    """Return 5th and 95th percentile and standard deviation of gray values, float64 [3, N]."""
    flat = thumbnails.reshape(len(thumbnails), -1)
    return np.stack([*np.percentile(flat, [5, 95], axis=1), flat.std(axis=1)])


def _far(values: np.ndarray, factor: float) -> np.ndarray:
    """Return bool [N]: True for values that differ from their median by more than a factor."""
    ratio = values / np.median(values)
    far: np.ndarray = np.maximum(ratio, 1 / ratio) > factor
    return far
