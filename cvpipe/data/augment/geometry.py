"""Random changes of geometry. Each takes and returns an example, so that whatever has a place in the image moves with it."""

from __future__ import annotations

import math

import tensorflow as tf

from cvpipe.config.augment import Flip, PadCrop, RandomResizedCrop
from cvpipe.data.sources import Example

# How often a crop is drawn anew that doesn't fit into the image.
TRIES = 10


def flip(example: Example, seed: tf.Tensor, op: Flip) -> Example:
    """Mirrors left and right with the given probability. "image" is [H, W, C] of any type."""
    mirrored = tf.random.stateless_uniform([], seed) < op.probability
    image = example["image"]
    return {**example, "image": tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)}


def pad_crop(example: Example, seed: tf.Tensor, op: PadCrop) -> Example:
    """Pads and crops the original size at a uniformly random place (He et al. 2015, section 4.2)."""
    image = example["image"]
    shape = tf.shape(image)
    around = [[op.padding, op.padding], [op.padding, op.padding], [0, 0]]
    if op.mode == "reflect":
        # A mirror can't be longer than the image: small images are padded by what they have.
        around = tf.minimum(around, tf.stack([shape[:1] - 1, shape[1:2] - 1, [0]]))
    padded = tf.pad(image, around, mode=op.mode.upper())
    places = tf.shape(padded)[:2] - shape[:2] + 1
    corner = tf.cast(tf.random.stateless_uniform([2], seed, dtype=tf.float64) * tf.cast(places, tf.float64), tf.int32)
    cropped = tf.slice(padded, tf.concat([corner, [0]], 0), shape)
    return {**example, "image": tf.ensure_shape(cropped, image.shape)}


def random_resized_crop(example: Example, seed: tf.Tensor, op: RandomResizedCrop, size: tuple[int, int]) -> Example:
    """Crops a random area and aspect ratio and resizes it to `size` (Szegedy et al. 2014, section 6). "image" becomes float32.

    Areas are spread evenly, aspects evenly on a logarithmic scale; where no such crop fits the whole image is taken.
    """
    # Not TensorFlow's distorted bounding box: its areas aren't spread evenly, and narrow ranges give it the whole image.
    image = example["image"]
    limits = tf.cast(tf.shape(image)[:2], tf.float64)
    draws = tf.random.stateless_uniform([TRIES + 1, 2], seed, dtype=tf.float64)
    area = tf.reduce_prod(limits) * _between(*op.area, draws[1:, 0])
    aspect = tf.exp(_between(math.log(op.aspect[0]), math.log(op.aspect[1]), draws[1:, 1]))
    extents = tf.maximum(tf.round(tf.sqrt(tf.stack([area / aspect, area * aspect], axis=1))), 1)
    fits = tf.reduce_all(extents <= limits, axis=1)
    extent = tf.where(tf.reduce_any(fits), extents[tf.argmax(tf.cast(fits, tf.int32))], limits)
    top, left = tf.unstack(tf.cast(draws[0] * (limits - extent + 1), tf.int32))
    height, width = tf.unstack(tf.cast(extent, tf.int32))
    resized = tf.image.resize(image[top: top + height, left: left + width], size, antialias=True)
    return {**example, "image": tf.ensure_shape(resized, [*size, image.shape[-1]])}


def _between(low: float, high: float, share: tf.Tensor) -> tf.Tensor:
    return low + (high - low) * share
