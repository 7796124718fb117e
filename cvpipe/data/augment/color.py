"""Random changes of color."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvpipe.config.augment.color import ColorJitter, Grayscale, PcaLighting
from cvpipe.data.example import Example


def color_jitter(example: Example, seed: tf.Tensor, op: ColorJitter) -> Example:
    """Change brightness, contrast, saturation and hue, in this order.

    "image" is [H, W, C] in 0…255 and becomes float32 in 0…255. Saturation and hue of a gray image
    (C = 1) don't change.
    """
    image = tf.cast(example["image"], tf.float32)
    brightness, contrast, saturation, hue = tf.unstack(
        tf.random.stateless_uniform([4], seed, -1.0, 1.0)
    )
    if op.brightness:
        image = tf.clip_by_value(image * (1 + op.brightness * brightness), 0, 255)
    if op.contrast:
        mean = tf.reduce_mean(_gray(image))
        image = tf.clip_by_value(mean + (image - mean) * (1 + op.contrast * contrast), 0, 255)
    if image.shape[-1] == 3 and op.saturation:
        gray = _gray(image)
        image = tf.clip_by_value(gray + (image - gray) * (1 + op.saturation * saturation), 0, 255)
    if image.shape[-1] == 3 and op.hue:
        image = tf.image.adjust_hue(image, op.hue * hue)
    return {**example, "image": image}


def grayscale(example: Example, seed: tf.Tensor, op: Grayscale) -> Example:
    """Remove the color with the given probability. "image" is uint8 or float32 [H, W, C] in 0…255
    and keeps its type.
    """
    image = example["image"]
    if image.shape[-1] != 3:
        return example
    taken = tf.random.stateless_uniform([], seed) < op.probability

    def gray() -> tf.Tensor:
        value = _gray(tf.cast(image, tf.float32))
        return tf.tile(
            tf.cast(tf.round(value), image.dtype) if image.dtype.is_integer else value, [1, 1, 3]
        )

    return {**example, "image": tf.cond(taken, gray, lambda: image)}


def pca_lighting(
    example: Example,
    seed: tf.Tensor,
    op: PcaLighting,
    eigenvalues: np.ndarray,
    eigenvectors: np.ndarray,
) -> Example:
    """Add a random multiple of each principal component of the training set's colors (Krizhevsky
    et al. 2012, section 4.1).

    Σ αᵢ λᵢ pᵢ is added to every pixel, with α normal of standard deviation `op.std`. A gray image
    has one component, its brightness.

    Args:
        example: "image" uint8 or float32 [H, W, C] in 0…255; becomes float32 in 0…255.
        eigenvalues: λ, float [C], of the covariance of the training set's colors with pixels in
            0…1. With pixels in 0…255 the formula would change an image 255 times as much.
        eigenvectors: p, float [C, C], in columns.
    """
    factors = tf.random.stateless_normal([len(eigenvalues)], seed, stddev=op.std)
    change = tf.linalg.matvec(tf.constant(eigenvectors * eigenvalues * 255, tf.float32), factors)
    return {
        **example,
        "image": tf.clip_by_value(tf.cast(example["image"], tf.float32) + change, 0, 255),
    }


def _gray(image: tf.Tensor) -> tf.Tensor:
    if image.shape[-1] != 3:
        return image
    # Takes half the time of tf.image.rgb_to_grayscale and has the same weights (ITU-R BT.601).
    red, green, blue = tf.split(image, 3, -1)
    return 0.2989 * red + 0.587 * green + 0.114 * blue
