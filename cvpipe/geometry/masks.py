"""Label masks: uint8 [..., H, W], the class of every pixel."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

IGNORED = 255
"""The label of pixels that losses and scores ignore."""


def palette() -> np.ndarray:
    """Return a color for every label: uint8 [256, 3], RGB.

    This is Pascal VOC's palette (Everingham et al. 2010, development kit). The bits of a label,
    three at a time from the lowest, become the high bits of red, green and blue, so that the first
    classes differ most. Label 0 is black.
    """
    labels = np.arange(256)
    bits = [
        sum((labels >> (3 * place + color) & 1) << (7 - place) for place in range(3))
        for color in range(3)
    ]
    return np.stack(bits, 1).astype(np.uint8)


def overlay(pixels: tf.Tensor, mask: tf.Tensor, strength: float = 0.6) -> tf.Tensor:
    """Blend an image with the colors of its mask; IGNORED pixels keep their color. Graph code.

    Args:
        pixels: uint8 [H, W, 1 or 3].
        mask: uint8 [H, W].
        strength: weight of the mask's color in [0, 1].

    Returns:
        uint8 [H, W, 3].
    """
    # Lookup tables for both products save memory: no float32 copy of a large image is made.
    colors = np.round(strength * palette()).astype(np.uint8)
    behind = np.round((1 - strength) * np.arange(256)).astype(np.uint8)
    covered = tf.gather(tf.constant(behind), tf.cast(pixels, tf.int32)) + tf.gather(
        tf.constant(colors), tf.cast(mask, tf.int32)
    )
    return tf.where(mask[..., tf.newaxis] == IGNORED, pixels, covered)
