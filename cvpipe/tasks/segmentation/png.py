"""Masks and overlays as PNG files in the answers of an artifact, for clients that can show images
but not arrays.

The names of these answers end in _bytes, so TensorFlow Serving sends them as base64.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from cvpipe.geometry.masks import overlay

STRIP = 256
"""Number of rows that are colored at once, to limit memory."""


def png_files(pixels: tf.Tensor, mask: tf.Tensor, kinds: Sequence[str]) -> dict[str, tf.Tensor]:
    """Encode the PNG files of one image. Graph code.

    Args:
        pixels: uint8 [H, W, 1 or 3].
        mask: uint8 [at least H, at least W], with padding beyond H and W.
        kinds: names of the files, "mask" or "overlay".

    Returns:
        "mask_bytes" and "overlay_bytes" as requested, string scalars; empty if the image has no
        pixels.
    """
    height, width = tf.unstack(tf.shape(pixels)[:2])
    shown = mask[:height, :width]
    draw = {
        "mask": lambda: shown[..., tf.newaxis],
        "overlay": lambda: _overlay_in_strips(pixels, shown),
    }

    def file(kind: str) -> tf.Tensor:
        return tf.cond(
            height * width > 0, lambda: tf.io.encode_png(draw[kind]()), lambda: tf.constant(b"")
        )

    return {f"{kind}_bytes": file(kind) for kind in kinds}


def _overlay_in_strips(pixels: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    count = -(-tf.shape(mask)[0] // STRIP)

    def add(number: tf.Tensor, done: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        begin, end = number * STRIP, (number + 1) * STRIP
        return number + 1, done.write(number, overlay(pixels[begin:end], mask[begin:end]))

    strips = tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=[None, None, 3])
    return tf.while_loop(
        lambda number, _: number < count, add, (tf.constant(0), strips), parallel_iterations=1
    )[1].concat()
