"""Placing of images on canvases: resizing, pasting, mean colors.

Dimensions: H, W and C of an image.
"""

from __future__ import annotations

import tensorflow as tf


def resize_and_place(
    image: tf.Tensor,
    size: tf.Tensor | tuple[int, int],
    scale: tf.Tensor,
    corner: tf.Tensor,
    antialias: bool = True,
) -> tf.Tensor:
    """Scale an image and place it on a canvas, computing only visible pixels.

    Equals `tf.image.resize` if the canvas shows the whole image. Graph code.

    Args:
        image: [H, W, C] of any numeric type.
        size: int32 [2], height and width of the canvas.
        scale: [2], vertical and horizontal scale factor.
        corner: [2], row and column of the canvas at which the image begins; may be negative.
        antialias: True to filter images that shrink; False to skip pixels.

    Returns:
        float32 [*size, C]; 0 outside the image.
    """
    placed = tf.raw_ops.ScaleAndTranslate(
        images=image[tf.newaxis],
        size=size,
        scale=tf.cast(scale, tf.float32),
        translation=tf.cast(corner, tf.float32),
        kernel_type="triangle",
        antialias=antialias,
    )
    return placed[0]


def paste(image: tf.Tensor, cover: tf.Tensor, top: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
    """Return the image with `cover` pasted so that its upper left pixel is at (top, left)."""
    bottom, right = top + tf.shape(cover)[0], left + tf.shape(cover)[1]
    rows = tf.concat([image[top:bottom, :left], cover, image[top:bottom, right:]], 1)
    return tf.ensure_shape(tf.concat([image[:top], rows, image[bottom:]], 0), image.shape)


def mean_color(image: tf.Tensor) -> tf.Tensor:
    """Return the mean of an image [H, W, C] over its pixels: float32 [C]."""
    return tf.reduce_mean(tf.cast(image, tf.float32), [0, 1])


def mean_canvas(image: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Return a canvas [height, width, C] filled with the image's mean color, in its dtype."""
    color = mean_color(image)
    color = tf.cast(tf.round(color), image.dtype) if image.dtype.is_integer else color
    return tf.broadcast_to(color, [height, width, image.shape[-1]])
