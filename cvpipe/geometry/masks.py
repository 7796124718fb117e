"""Label masks: uint8 [..., H, W], the class of every pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

IGNORED = 255
"""The label of pixels that are neither learned nor counted."""


def palette() -> np.ndarray:
    """A colour for every label: uint8 [256, 3], RGB.

    Pascal VOC's (Everingham et al. 2010, its development kit): the bits of a label, three at a time
    from the lowest, are the high bits of red, green and blue, so that the first classes differ
    most. Label 0 is black.
    """
    labels = np.arange(256)
    bits = [
        sum((labels >> (3 * place + colour) & 1) << (7 - place) for place in range(3))
        for colour in range(3)
    ]
    return np.stack(bits, 1).astype(np.uint8)


def overlay(pixels: tf.Tensor, mask: tf.Tensor, strength: float = 0.6) -> tf.Tensor:
    """An image under the colours of its mask; pixels that are IGNORED stay as they are. Graph code.

    Args:
        pixels: uint8 [H, W, 1 or 3].
        mask: uint8 [H, W].
        strength: share of the colour.

    Returns:
        uint8 [H, W, 3].
    """
    # A table for each product: no pixel is computed in float32, of which a large image would need
    # many.
    colours = np.round(strength * palette()).astype(np.uint8)
    behind = np.round((1 - strength) * np.arange(256)).astype(np.uint8)
    covered = tf.gather(tf.constant(behind), tf.cast(pixels, tf.int32)) + tf.gather(
        tf.constant(colours), tf.cast(mask, tf.int32)
    )
    return tf.where(mask[..., tf.newaxis] == IGNORED, pixels, covered)


def pad_to_room(values: tf.Tensor, room: tf.Tensor) -> tf.Tensor:
    """`values`, filled up with IGNORED behind every dimension to at least `room`, int32 [their
    rank]. Graph code.
    """
    beyond = tf.maximum(room - tf.shape(values), 0)
    return tf.pad(
        values,
        tf.stack([tf.zeros_like(beyond), beyond], 1),
        constant_values=tf.constant(IGNORED, values.dtype),
    )


def concatenate_padded(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Batches [B, …] as one; where examples differ in size, smaller ones are filled up with IGNORED
    as `pad_to_room` does.
    """
    room = np.max([part.shape[1:] for part in parts], 0).astype(int)
    if all(part.shape[1:] == tuple(room) for part in parts):
        return np.concatenate(parts)
    around = [[(0, 0), *((0, beyond) for beyond in room - part.shape[1:])] for part in parts]
    return np.concatenate(
        [
            np.pad(part, sides, constant_values=IGNORED)
            for part, sides in zip(parts, around, strict=True)
        ]
    )
