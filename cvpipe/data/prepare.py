"""Deterministic resizing and normalization: the one definition that training, evaluation and the artefact share."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvpipe.config.prepare import Prepare


def prepare(image: tf.Tensor, config: Prepare) -> tf.Tensor:
    """Brings an image to the network's input. Graph code.

    Args:
        image: uint8 or float32 [H, W, C] in 0…255.
        config: size, channels, resizing, mean and std.

    Returns:
        float32 [height, width, C], (pixels / 255 − mean) / std.
    """
    image = _crop_to_aspect(image, config.size) if config.resize == "crop" else image
    image = tf.image.resize(image, config.size, antialias=True)
    mean, std = np.array(config.mean, np.float32), np.array(config.std, np.float32)
    return tf.ensure_shape(tf.cast(image, tf.float32) * (1 / (255 * std)) - mean / std, [*config.size, config.channels])


def restore_pixels(prepared: tf.Tensor, config: Prepare) -> tf.Tensor:
    """The pixels of prepared images, for people: float32 [..., C] to uint8 [..., C]."""
    pixels = (prepared * tf.constant(config.std) + tf.constant(config.mean)) * 255
    return tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8)


def _crop_to_aspect(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """The largest middle part with the aspect of `size`; integers throughout, so no platform rounds otherwise."""
    # 64 bits: width × size[0] may pass 2³¹ in a very long image.
    height, width = tf.unstack(tf.shape(image, tf.int64)[:2])
    crop_height = tf.maximum(tf.minimum(height, width * size[0] // size[1]), 1)
    crop_width = tf.maximum(tf.minimum(width, height * size[1] // size[0]), 1)
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return image[top: top + crop_height, left: left + crop_width]
