"""Random changes of geometry. Each takes and returns an example, so that whatever has a place in the image moves with it."""

from __future__ import annotations

import tensorflow as tf

from cvpipe.config import Flip, PadCrop, RandomResizedCrop
from cvpipe.data.sources import Example


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
    """Crops a random area and aspect ratio and resizes it to `size` (Szegedy et al. 2014, section 6). "image" becomes float32."""
    image = example["image"]
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros([1, 0, 4]),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=op.aspect,
        area_range=op.area,
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    cropped = tf.slice(image, begin, extent)
    resized = tf.image.resize(cropped, size, antialias=True)
    return {**example, "image": tf.ensure_shape(resized, [*size, image.shape[-1]])}
