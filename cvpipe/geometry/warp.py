"""Image warping: projective transforms and sampling at arbitrary points.

A transform is float32 [8], (a0, a1, a2, b0, b1, b2, c0, c1). It maps the position (x, y) of an
output pixel to a position in the input: ((a0 x + a1 y + a2) / k, (b0 x + b1 y + b2) / k), k = c0 x
+ c1 y + 1. Pixel (0, 0) has its center at (0, 0), and an image its center at ((W − 1) / 2, (H − 1)
/ 2).

Dimensions: H, W, C of the image.
"""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from cvpipe.config.augment.augmentation import Fill

Interpolation = Literal["bilinear", "nearest"]


def warp(
    image: tf.Tensor,
    transform: tf.Tensor,
    fill: Fill,
    value: float = 0.0,
    interpolation: Interpolation = "bilinear",
) -> tf.Tensor:
    """Apply a projective transform to an image. Graph code.

    Args:
        image: uint8 or float32 [H, W, C] in 0…255.
        transform: float32 [8], maps output positions to input positions.
        fill: values outside the image. "constant": `value`. "reflect": the mirrored image with its
            edge repeated (d c b a | a b c d | d c b a). "nearest": the nearest edge pixel.
        value: for "constant", in 0…255.
        interpolation: "bilinear", or "nearest" for label masks.

    Returns:
        float32 [H, W, C] in 0…255; with "nearest", the dtype of the image.
    """
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=(
            image[tf.newaxis]
            if interpolation == "nearest"
            else tf.cast(image, tf.float32)[tf.newaxis]
        ),
        transforms=tf.reshape(transform, [1, 8]),
        output_shape=tf.shape(image)[:2],
        fill_value=tf.constant(value, tf.float32),
        interpolation=interpolation.upper(),
        fill_mode=fill.upper(),
    )
    return tf.ensure_shape(warped[0], image.shape)


def sample(
    image: tf.Tensor,
    y: tf.Tensor,
    x: tf.Tensor,
    fill: Fill,
    value: float = 0.0,
    interpolation: Interpolation = "bilinear",
) -> tf.Tensor:
    """Sample an image at arbitrary positions, for transforms that are not projective; slower than
    `warp`.

    Graph code.

    Args:
        image: uint8 or float32 [H, W, C] in 0…255.
        y, x: float32 [h, w], positions in the image.
        fill, value, interpolation: as in `warp`.

    Returns:
        float32 [h, w, C] in 0…255; with "nearest", the dtype of the image.
    """
    height, width = tf.unstack(tf.shape(image)[:2])
    if fill == "constant":
        # One pixel of padding is the nearest pixel for all positions outside.
        image = tf.pad(image, [[1, 1], [1, 1], [0, 0]], constant_values=tf.cast(value, image.dtype))
    columns = tf.shape(image)[1]
    pixels = tf.reshape(image, [-1, image.shape[-1]])
    if interpolation == "nearest":
        return tf.gather(
            pixels,
            _neighbors(y + 0.5, height, fill)[0] * columns + _neighbors(x + 0.5, width, fill)[0],
        )
    top, bottom, down = _neighbors(y, height, fill)
    left, right, across = _neighbors(x, width, fill)

    def at(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.gather(pixels, row * columns + column), tf.float32)

    def between(low: tf.Tensor, high: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
        return low + (high - low) * share[..., tf.newaxis]

    return between(
        between(at(top, left), at(top, right), across),
        between(at(bottom, left), at(bottom, right), across),
        down,
    )


def rotation(angle: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Return the transform, float32 [8], that rotates the content by `angle` radians
    counterclockwise about the center.
    """
    cos, sin = tf.cos(angle), tf.sin(angle)
    return _around_center(cos, -sin, sin, cos, height, width)


def translation(dy: tf.Tensor, dx: tf.Tensor) -> tf.Tensor:
    """Return the transform, float32 [8], that moves the content `dy` pixels down and `dx` right."""
    return _transform(1.0, 0.0, -dx, 0.0, 1.0, -dy)


def shearing(angle: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Return the transform, float32 [8], that shears the content horizontally by `angle` radians
    about the center. The part above the center moves to the right.
    """
    return _around_center(1.0, tf.tan(angle), 0.0, 1.0, height, width)


def _neighbors(
    place: tf.Tensor, length: tf.Tensor, fill: Fill
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the pixels before and after a position on a line of `length` pixels, int32, and its
    distance from the first, in [0, 1).
    """
    before = tf.floor(place)
    first = tf.cast(before, tf.int32)
    # Integers from here on: graph and eager mode sum floats in different orders, with different
    # bits.
    match fill:
        case "constant":
            pixels = [tf.clip_by_value(first + n, 0, length + 1) for n in (1, 2)]
        case "nearest":
            pixels = [tf.clip_by_value(first + n, 0, length - 1) for n in (0, 1)]
        case "reflect":
            # The image and its mirror image repeat after twice the length.
            first = tf.math.floormod(first, 2 * length)
            pixels = [
                tf.maximum(tf.minimum(first + n, 2 * length - 1 - n - first), 0) for n in (0, 1)
            ]
    return pixels[0], pixels[1], place - before


def _around_center(
    a0: tf.Tensor, a1: tf.Tensor, b0: tf.Tensor, b1: tf.Tensor, height: tf.Tensor, width: tf.Tensor
) -> tf.Tensor:
    """Return the transform, float32 [8], of the linear map (x, y) → (a0 x + a1 y, b0 x + b1 y)
    about the center.
    """
    y, x = (tf.cast(height, tf.float32) - 1) / 2, (tf.cast(width, tf.float32) - 1) / 2
    return _transform(a0, a1, x - a0 * x - a1 * y, b0, b1, y - b0 * x - b1 * y)


def _transform(*affine: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.cast(number, tf.float32) for number in (*affine, 0.0, 0.0)])
