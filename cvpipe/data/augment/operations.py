"""The deterministic operations of AutoAugment and RandAugment (Cubuk et al. 2018, table 6).

All take a uint8 image [H, W, C] in 0…255, C = 1 or 3, and an amount, a float32 scalar in the
operation's own unit, and return the image as uint8 [H, W, C]. Colors are bit-identical to PIL's,
which the paper uses. Pixels move as in the authors' code, but with bilinear interpolation: nearest
neighbor leaves torn edges. Pixels from outside the image are gray (128).

Dimensions: H, W, C of the image.
"""

from __future__ import annotations

import math

import tensorflow as tf

from cvpipe.geometry.warp import rotation, warp

OUTSIDE = 128


def identity(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Return the image itself."""
    return tf.identity(image)


def auto_contrast(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Stretch every channel to 0…255 (PIL's ImageOps.autocontrast)."""
    values, pixels = (
        tf.range(256, dtype=tf.float64)[:, tf.newaxis],
        tf.reshape(image, [-1, image.shape[-1]]),
    )
    low, high = (
        tf.cast(extreme(pixels, 0), tf.float64) for extreme in (tf.reduce_min, tf.reduce_max)
    )
    # Double precision, and operations in PIL's order, because results are truncated to integers and
    # many are close to the next integer.
    scale = 255 / tf.maximum(high - low, 1)
    stretched = tf.clip_by_value(values * scale + -low * scale, 0, 255)
    return _looked_up(image, tf.where(high > low, stretched, values))


def equalize(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Equalize the histogram of every channel (PIL's ImageOps.equalize)."""
    pixels = tf.reshape(tf.cast(image, tf.int32), [-1, image.shape[-1]])
    counts = tf.math.bincount(tf.transpose(pixels), minlength=256, maxlength=256, axis=-1)
    below = tf.cumsum(counts, axis=1, exclusive=True)
    # The number of pixels below the brightest value, divided into 255 steps.
    step = tf.reduce_max(tf.where(counts > 0, below, 0), axis=1, keepdims=True) // 255
    flat = tf.minimum((below + step // 2) // tf.maximum(step, 1), 255)
    return _looked_up(image, tf.transpose(tf.where(step > 0, flat, tf.range(256))))


def invert(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Invert all pixels."""
    return 255 - image


def solarize(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Invert pixels of at least the integer part of `amount`, in 0…256: 0 inverts all pixels, 256
    none (PIL's ImageOps.solarize).
    """
    # Flipping all bits inverts a pixel and takes a fifth of the time of tf.where.
    inverted = tf.cast(tf.cast(image, tf.float32) >= tf.floor(amount), tf.uint8)
    return tf.bitwise.bitwise_xor(image, 255 * inverted)


def posterize(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Keep only the highest bits of every pixel (PIL's ImageOps.posterize).

    The number of bits is the integer part of `amount`; 8 or more keeps all.
    """
    dropped = 8 - tf.clip_by_value(tf.cast(amount, tf.int32), 0, 8)
    return tf.bitwise.bitwise_and(image, tf.cast(256 - tf.bitwise.left_shift(1, dropped), tf.uint8))


def color(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Multiply saturation by `amount` (PIL's ImageEnhance.Color). A gray image doesn't change."""
    return _blend(_gray(image), image, amount) if image.shape[-1] == 3 else tf.identity(image)


def contrast(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Multiply contrast by `amount` around the image's mean gray (PIL's ImageEnhance.Contrast)."""
    mean = tf.floor(tf.reduce_mean(tf.cast(_gray(image), tf.float64)) + 0.5)
    return _blend(tf.cast(mean, tf.float32), image, amount)


def brightness(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Multiply brightness by `amount` (PIL's ImageEnhance.Brightness)."""
    return _blend(tf.constant(0.0), image, amount)


def sharpness(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Multiply the difference from a slightly blurred image by `amount`: 0 blurs, 1 changes nothing
    (PIL's ImageEnhance.Sharpness).
    """
    height, width = tf.unstack(tf.shape(image)[:2])
    pixels = tf.cast(image, tf.float32)
    framed = tf.pad(pixels, [[1, 1], [1, 1], [0, 0]])
    rows = framed[:-2] + framed[1:-1] + framed[2:]
    neighbors = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    smooth = tf.floor((neighbors + 4 * pixels) / 13 + 0.5)
    # The outermost pixels have no full neighborhood and aren't blurred.
    row, column = tf.range(height)[:, tf.newaxis, tf.newaxis], tf.range(width)[:, tf.newaxis]
    inside = tf.cast(
        (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1), tf.float32
    )
    return _blend(pixels + inside * (smooth - pixels), image, amount)


def rotate(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Rotate by `amount` degrees counterclockwise around the center."""
    height, width = tf.unstack(tf.shape(image)[:2])
    return _warped(image, rotation(amount * (math.pi / 180), height, width))


def shear_x(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Move every row to the left by `amount` times its distance from the first."""
    return _warped(image, tf.stack([1.0, amount, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]))


def shear_y(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Move every column up by `amount` times its distance from the first."""
    return _warped(image, tf.stack([1.0, 0.0, 0.0, amount, 1.0, 0.0, 0.0, 0.0]))


def translate_x(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Move to the right by `amount` widths, in whole pixels."""
    return _moved(image, tf.stack([0.0, amount]))


def translate_y(image: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Move down by `amount` heights, in whole pixels."""
    return _moved(image, tf.stack([amount, 0.0]))


def _warped(image: tf.Tensor, transform: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.round(warp(image, transform, "constant", OUTSIDE)), tf.uint8)


def _moved(image: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Move the image down and right by shares [2] of its height and width, ten times as fast as a
    warp.
    """
    shape = tf.shape(image)
    pixels = tf.cast(tf.round(shares * tf.cast(shape[:2], tf.float32)), tf.int32)
    around = tf.pad(tf.stack([tf.abs(pixels)] * 2, axis=1), [[0, 1], [0, 0]])
    framed = tf.pad(image, around, constant_values=tf.constant(OUTSIDE, tf.uint8))
    return tf.slice(framed, tf.concat([tf.abs(pixels) - pixels, [0]], 0), shape)


def _looked_up(image: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Map every pixel by a table per channel, numbers [256, C] in 0…255."""
    channels = image.shape[-1]
    places = tf.cast(image, tf.int32) * channels + tf.range(channels)
    return tf.gather_nd(tf.reshape(tf.cast(table, tf.uint8), [-1]), places[..., tf.newaxis])


def _gray(image: tf.Tensor) -> tf.Tensor:
    """Luma (ITU-R BT.601) as PIL rounds it: float32 [H, W, 1]."""
    pixels = tf.cast(image, tf.float32)
    if image.shape[-1] == 1:
        return pixels
    # Sixteen fractional bits: every sum is an integer below 2²⁴, which float32 holds exactly.
    weighted = tf.linalg.matvec(pixels, [19595.0, 38470.0, 7471.0])
    return tf.floor((weighted + 2**15) / 2**16)[..., tf.newaxis]


def _blend(degenerate: tf.Tensor, image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Interpolate between `degenerate` (factor 0) and the image (1), or extrapolate beyond it.
    Truncates to integers, as PIL does.
    """
    blended = degenerate + factor * (tf.cast(image, tf.float32) - degenerate)
    return tf.cast(tf.clip_by_value(blended, 0, 255), tf.uint8)
