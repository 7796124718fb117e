"""Rounding of attacked images to the pixels of a file.

Dimensions: B images, N values of an image. Lengths are in units of a pixel's 255 steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from cvpipe.config.prepare import Prepare
from cvpipe.data.prepare import normalize, restore_colors
from cvpipe.explain.attack import Ball, make_ball

_HALVINGS = 40
# Factors for `lengthened`, up to 4.2.
_STRETCHES = tuple(1.1**n for n in range(16))


def to_bytes(
    images: tf.Tensor,
    around: tf.Tensor,
    prepare: Prepare,
    ball: Ball,
    *,
    stretch: float | tf.Tensor = 1.0,
) -> tf.Tensor:
    """Round attacked images to the nearest pixels of a file inside the ball, uint8 [B, H, W, C].

    In L2, rounding each value to the nearest would erase a change that is spread over many values.
    Therefore the change keeps its length instead: the values with the largest changes are rounded
    away from the original, the others to the original.

    Args:
        images: prepared images.
        around: the originals, prepared.
        prepare: their preparation.
        ball: the allowed images.
        stretch: factor by which a change in L2 is lengthened.
    """
    pixels, before = (255 * restore_colors(batch, prepare) for batch in (images, around))
    # The pixels of the originals are integers, up to rounding errors.
    before = tf.round(before)
    change = pixels - before
    size, room = tf.abs(change), tf.where(change > 0, 255 - before, before)
    if ball.norm == "linf":
        # An ε such as 8 / 255 may be a little less than 8 steps.
        steps = math.floor(min(255 * ball.epsilon, 255) + 1e-3)
        whole = tf.minimum(tf.minimum(tf.round(size), steps), room)
    else:
        shape = tf.shape(size)
        flat_size, flat_room = (
            tf.cast(tf.reshape(values, [shape[0], -1]), tf.float64) for values in (size, room)
        )
        # The tolerance keeps changes by whole values as they are, despite rounding errors.
        squared = (1.001 * stretch**2) * tf.reduce_sum(tf.square(flat_size), 1)
        squared = tf.minimum(squared, (255 * ball.epsilon) ** 2 + 1e-6)
        whole = tf.cast(tf.reshape(_whole(flat_size, flat_room, squared), shape), tf.float32)
    return tf.cast(before + tf.sign(change) * whole, tf.uint8)


def lengthened(
    images: tf.Tensor,
    around: tf.Tensor,
    prepare: Prepare,
    succeeds: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Round attacked images just beyond a boundary, prepared. Rounding may move them back, so their
    changes are lengthened in L2 until the attack succeeds. Originals with which the attack
    succeeds, and those with which it fails, are returned instead.

    Args:
        images: prepared images.
        around: the originals, prepared.
        prepare: their preparation.
        succeeds: maps prepared images to bool [B].
    """
    anywhere = make_ball(math.inf, "l2", prepare)
    stretches = tf.constant(_STRETCHES, tf.float64)

    def lengthen(number: tf.Tensor, best: tf.Tensor, done: tf.Tensor) -> tuple[tf.Tensor, ...]:
        pixels = to_bytes(images, around, prepare, anywhere, stretch=stretches[number])
        rounded = normalize(pixels, prepare)
        better = ~done & succeeds(rounded)
        best = tf.where(better[:, tf.newaxis, tf.newaxis, tf.newaxis], rounded, best)
        return number + 1, best, done | better

    return tf.while_loop(
        lambda number, _, done: (number < len(_STRETCHES)) & ~tf.reduce_all(done),
        lengthen,
        (0, around, succeeds(around)),
        parallel_iterations=1,
    )[1]


def _whole(size: tf.Tensor, room: tf.Tensor, squared: tf.Tensor) -> tf.Tensor:
    """Return the whole values, at most `room` and with at most this squared length, that are
    farthest along `size`, float64 [B, N].

    The n-th step of a value adds `size` to the product with `size`, and 2n − 1 to the squared
    length. Taking the steps with the largest ratios first is the same as rounding a multiple of
    `size`; so this is a search for the multiple.
    """

    def rounded(factor: tf.Tensor) -> tf.Tensor:
        return tf.minimum(tf.round(factor[:, tf.newaxis] * size), room)

    def halve(step: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, ...]:
        middle = (low + high) / 2
        fits = tf.reduce_sum(tf.square(rounded(middle)), 1) <= squared
        return step + 1, tf.where(fits, middle, low), tf.where(fits, high, middle)

    largest = tf.reduce_max(size, axis=1)
    high = tf.math.divide_no_nan(tf.sqrt(squared) + 1, largest)
    _, low, high = tf.while_loop(
        lambda step, *_: step < _HALVINGS,
        halve,
        (0, tf.zeros_like(high), high),
        parallel_iterations=1,
    )
    least, most = rounded(low), rounded(high)
    # Steps with the same ratio don't all fit; the first ones are taken.
    spare = squared - tf.reduce_sum(tf.square(least), 1)
    fits = tf.cumsum(tf.square(most) - tf.square(least), axis=1) <= spare[:, tf.newaxis]
    return tf.where(fits, most, least)
