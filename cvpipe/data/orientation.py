"""Rotation of images by the eight orientations of Exif, in graph code."""

from __future__ import annotations

import tensorflow as tf

from cvpipe.data.graph import noinline_branch

# Orientation 1 to 8: transpose first, then mirror left and right, then top and bottom.
_TURNS = [
    (False, False, False),
    (False, True, False),
    (False, True, True),
    (False, False, True),
    (True, False, False),
    (True, True, False),
    (True, True, True),
    (True, False, True),
]


def turns(orientation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the operations that make an image upright, in order of application: transpose, mirror
    left-right, mirror top-bottom; bool scalars.
    """
    transpose, left_right, top_bottom = tf.unstack(tf.gather(tf.constant(_TURNS), orientation - 1))
    return transpose, left_right, top_bottom


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Rotate and mirror an image [H, W, C] to be upright; H and W may be swapped."""

    def turned() -> tf.Tensor:
        transpose, left_right, top_bottom = turns(orientation)
        transposed = tf.cond(transpose, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        mirrored = tf.cond(left_right, lambda: tf.reverse(transposed, [1]), lambda: transposed)
        return tf.cond(top_bottom, lambda: tf.reverse(mirrored, [0]), lambda: mirrored)

    return tf.cond(orientation == 1, lambda: image, noinline_branch(turned))
