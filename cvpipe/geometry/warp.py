"""Moving pixels: an image looked up, bilinearly or at the nearest pixel, at other places.

A transform is float32 [8], (a0, a1, a2, b0, b1, b2, c0, c1), and maps the place (x, y) of an output
pixel to one in the input: ((a0 x + a1 y + a2) / k, (b0 x + b1 y + b2) / k), k = c0 x + c1 y + 1.
Pixel (0, 0) has its center at (0, 0), and an image its center at ((W − 1) / 2, (H − 1) / 2).

Dimensions: H, W, C of the image.
"""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from cvpipe.config.augment import Fill

Interpolation = Literal["bilinear", "nearest"]


def warp(
    image: tf.Tensor,
    transform: tf.Tensor,
    fill: Fill,
    value: float = 0.0,
    interpolation: Interpolation = "bilinear",
) -> tf.Tensor:
    """The image under a projective transform. Graph code.

    Args:
        image: uint8 or float32 [H, W, C] in 0…255.
        transform: float32 [8], from places in the output to places in the input.
        fill: what lies outside: "constant", `value`; "reflect", the mirrored image, its edge twice
            (d c b a | a b c d | d c b a);
            "nearest", the nearest edge.
        value: for "constant", in 0…255.
        interpolation: "nearest" takes the nearest pixel as it is: what labels need.

    Returns:
        float32 [H, W, C] in 0…255; for "nearest" of the image's type.
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
    """The image at any places, for what no projective transform describes; slower than `warp`.

    Graph code.

    Args:
        image: uint8 or float32 [H, W, C] in 0…255.
        y, x: float32 [h, w], places in the image.
        fill, value, interpolation: as in `warp`.

    Returns:
        float32 [h, w, C] in 0…255; for "nearest" of the image's type.
    """
    height, width = tf.unstack(tf.shape(image)[:2])
    if fill == "constant":
        # A border of one pixel: nearest to it is whatever lies outside.
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
    """Turns the image's content by `angle` radians anticlockwise, as seen, around its center:
    float32 [8].
    """
    cos, sin = tf.cos(angle), tf.sin(angle)
    return _around_center(cos, -sin, sin, cos, height, width)


def translation(dy: tf.Tensor, dx: tf.Tensor) -> tf.Tensor:
    """Moves the image's content by `dy` pixels down and `dx` to the right: float32 [8]."""
    return _transform(1.0, 0.0, -dx, 0.0, 1.0, -dy)


def shearing(angle: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Slants the image's content by `angle` radians, what is above the center to the right, around
    the center: float32 [8].
    """
    return _around_center(1.0, tf.tan(angle), 0.0, 1.0, height, width)


def _neighbors(
    place: tf.Tensor, length: tf.Tensor, fill: Fill
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The pixels before and after a place on a line of `length` pixels, int32, and how far it is
    from the first to the second.
    """
    before = tf.floor(place)
    first = tf.cast(before, tf.int32)
    # Whole numbers from here on: sums of fractions are taken in another order, to other bits, by a
    # graph than eagerly.
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
    """The linear map (x, y) → (a0 x + a1 y, b0 x + b1 y) about the image's center."""
    y, x = (tf.cast(height, tf.float32) - 1) / 2, (tf.cast(width, tf.float32) - 1) / 2
    return _transform(a0, a1, x - a0 * x - a1 * y, b0, b1, y - b0 * x - b1 * y)


def _transform(*affine: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.cast(number, tf.float32) for number in (*affine, 0.0, 0.0)])
