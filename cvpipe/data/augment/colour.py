"""Random changes of colour; nothing moves."""

from __future__ import annotations

import tensorflow as tf

from cvpipe.config.augment import ColourJitter
from cvpipe.data.sources import Example


def colour_jitter(example: Example, seed: tf.Tensor, op: ColourJitter) -> Example:
    """Changes brightness, contrast, saturation and hue, in this order.

    "image" is [H, W, C] in 0…255 and becomes float32 in 0…255; a grey image (C = 1) keeps its lack of saturation and hue.
    """
    image = tf.cast(example["image"], tf.float32) / 255
    brightness, contrast, saturation, hue = tf.unstack(tf.random.stateless_uniform([4], seed, -1.0, 1.0))
    image = tf.clip_by_value(image * (1 + op.brightness * brightness), 0, 1)
    if op.contrast:
        mean = tf.reduce_mean(_grey(image))
        image = tf.clip_by_value(mean + (image - mean) * (1 + op.contrast * contrast), 0, 1)
    if image.shape[-1] == 3 and op.saturation:
        image = tf.clip_by_value(_grey(image) + (image - _grey(image)) * (1 + op.saturation * saturation), 0, 1)
    if image.shape[-1] == 3 and op.hue:
        image = tf.image.adjust_hue(image, op.hue * hue)
    return {**example, "image": image * 255}


def _grey(image: tf.Tensor) -> tf.Tensor:
    return tf.image.rgb_to_grayscale(image) if image.shape[-1] == 3 else image
