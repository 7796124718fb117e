"""Images on canvases: resized, placed, pasted, and the color behind them.

Dimensions: H, W, C of an image.
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
    """Show a scaled image on a canvas, computing only the pixels that the canvas shows.

    Where it shows all of the image, this is `tf.image.resize`. Graph code.

    Args:
        image: of any numeric type, [H, W, C].
        size: int32 [2], height and width of the canvas.
        scale: [2], down and across, by which the image is scaled.
        corner: [2], down and across, the pixel of the canvas at which the image begins; may be
            negative.
        antialias: without it, pixels are left out where the image shrinks.

    Returns:
        float32 [*size, C]; 0 where the image isn't.
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
    """Return the image with `cover` in it, its upper left pixel at (top, left)."""
    bottom, right = top + tf.shape(cover)[0], left + tf.shape(cover)[1]
    rows = tf.concat([image[top:bottom, :left], cover, image[top:bottom, right:]], 1)
    return tf.ensure_shape(tf.concat([image[:top], rows, image[bottom:]], 0), image.shape)


def mean_color(image: tf.Tensor) -> tf.Tensor:
    """Return the mean of an image [H, W, C] over its pixels: float32 [C]."""
    return tf.reduce_mean(tf.cast(image, tf.float32), [0, 1])


def mean_canvas(image: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Return a canvas [height, width, C] of the image's mean color and type."""
    color = mean_color(image)
    color = tf.cast(tf.round(color), image.dtype) if image.dtype.is_integer else color
    return tf.broadcast_to(color, [height, width, image.shape[-1]])
