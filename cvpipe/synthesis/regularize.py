"""Regularization of images during ascent: penalties, changes between steps, and random views.

Images are float32 [B, H, W, C].
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def total_variation(images: tf.Tensor, beta: float = 2.0) -> tf.Tensor:
    """Return the mean over pixels and channels of (dx² + dy²)^(β / 2), float32 [B] (Mahendran and
    Vedaldi 2015, equation 4); dx and dy are 0 at the last column and row.
    """
    right = tf.pad(images[:, :, 1:] - images[:, :, :-1], [[0, 0], [0, 0], [0, 1], [0, 0]])
    down = tf.pad(images[:, 1:] - images[:, :-1], [[0, 0], [0, 1], [0, 0], [0, 0]])
    # Avoid the infinite gradient of the square root at 0.
    squares = tf.square(right) + tf.square(down) + (1e-8 if beta < 2 else 0.0)
    return tf.reduce_mean(squares ** (beta / 2), [1, 2, 3])


def blur(images: tf.Tensor, sigma: float) -> tf.Tensor:
    """Blur by a Gaussian with a standard deviation of `sigma` pixels; edges are repeated."""
    reach = max(int(3 * sigma + 0.5), 1)
    places = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (places / sigma) ** 2)
    weights = [float(weight) for weight in kernel / kernel.sum()]
    for axis in (1, 2):
        images = _edges_repeated(images, axis, reach)
        length = images.shape[axis] - 2 * reach
        images = tf.add_n(
            [
                weight * tf.gather(images, tf.range(n, n + length), axis=axis)
                for n, weight in enumerate(weights)
            ]
        )
    return images


def clip_smallest(images: tf.Tensor, values: tf.Tensor, share: float) -> tf.Tensor:
    """Set the pixels of each image with the smallest `values` to 0 (Yosinski et al. 2015, section
    3).

    Args:
        images: images in which 0 is the mean color.
        values: float32 [B, H, W], such as the norm of a pixel or its contribution to the score.
        share: share of the pixels to set to 0.
    """
    height, width = images.shape[1:3]
    count = int(share * height * width)
    if count == 0:
        return images
    ordered = tf.sort(tf.reshape(values, [-1, height * width]), axis=1)
    kept = values >= ordered[:, count, tf.newaxis, tf.newaxis]
    return tf.where(kept[..., tf.newaxis], images, 0.0)


def random_view(
    images: tf.Tensor, seed: tf.Tensor, jitter: float, scales: tuple[float, float] = (1.0, 1.0)
) -> tf.Tensor:
    """Shift images randomly, and scale them randomly about their center. All images of a batch are
    shifted and scaled alike. Pixels beyond the edges repeat the edges.

    Args:
        images: images of known height and width.
        seed: int64 [2].
        jitter: largest shift, as a share of a side.
        scales: smallest and largest factor.
    """
    drawn = tf.random.stateless_uniform([3], seed)
    factor = scales[0] + drawn[0] * (scales[1] - scales[0])
    moves = jitter * (2 * drawn[1:] - 1)
    rows, columns = (
        _interpolation(length, factor, moves[n] * length)
        for n, length in enumerate(images.shape[1:3])
    )
    return tf.einsum("yh,bhwc,xw->byxc", rows, images, columns)


def _interpolation(length: int, factor: tf.Tensor, move: tf.Tensor) -> tf.Tensor:
    """Return the matrix of linear interpolation along an axis, [length, length]: each row has the
    weights of the original pixels in one new pixel.
    """
    middle = (length - 1) / 2
    places = (tf.range(length, dtype=tf.float32) - middle) / factor + middle + move
    places = tf.clip_by_value(places, 0.0, length - 1.0)
    distance = tf.abs(places[:, tf.newaxis] - tf.range(length, dtype=tf.float32))
    return tf.maximum(1 - distance, 0.0)


def _edges_repeated(images: tf.Tensor, axis: int, reach: int) -> tf.Tensor:
    length = images.shape[axis]
    places = np.clip(np.arange(-reach, length + reach), 0, length - 1)
    return tf.gather(images, places, axis=axis)
