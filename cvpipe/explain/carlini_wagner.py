"""The attack of Carlini and Wagner: the nearest misclassified image, by optimization."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from cvpipe.explain.attack import Ball
from cvpipe.explain.score import Subject, chosen

# Adam's constants (Kingma and Ba 2015).
_FIRST, _SECOND = 0.9, 0.999


def carlini_wagner(
    subject: Subject,
    images: tf.Tensor,
    classes: tf.Tensor,
    ball: Ball,
    *,
    targeted: bool = False,
    steps: int = 100,
    searches: int = 5,
    rate: float = 0.01,
    constant: float = 1.0,
) -> tf.Tensor:
    """Search for the nearest misclassified image in L2 (Carlini and Wagner 2017, section VI.A).
    Return it, or the image itself if the search fails. Changes aren't limited to `ball.epsilon`.

    The attack minimizes ‖change‖² + c max(margin, 0), where the margin is the lead of the true
    class's score, and searches for the smallest c that succeeds for each image. Pixels are the tanh
    of free variables, which Adam optimizes.

    Args:
        subject: the network.
        images: prepared images.
        classes: int32 [B], the true classes, or the target classes if `targeted`.
        ball: gives the range and the scale of pixels.
        targeted: find images classified as `classes`, instead of as any other class.
        steps: steps of Adam for each c.
        searches: number of values of c to try; the first is `constant`.
        rate: learning rate.
        constant: the first c.
    """
    half = (ball.high - ball.low) / 2
    middle = ball.low + half
    # The factor is a little less than 1, because the arctanh of 1 is infinite.
    start = tf.atanh(0.999999 * tf.clip_by_value((images - middle) / half, -1.0, 1.0))
    wrong = tf.one_hot(classes, subject.all_scores(images[:1]).shape[1], on_value=1e9)

    def margin(found: tf.Tensor) -> tf.Tensor:
        scores = subject.all_scores(found)
        lead = chosen(scores, classes) - tf.reduce_max(scores - wrong, axis=1)
        return -lead if targeted else lead

    def size(found: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.square((found - images) / ball.scale), [1, 2, 3])

    def descend(step: tf.Tensor, free: tf.Tensor, state: Any, best: Any, weight: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(free)
            found = middle + half * tf.tanh(free)
            found_size, found_margin = size(found), margin(found)
            loss = tf.reduce_sum(found_size + weight * tf.maximum(found_margin, 0))
        gradient = tape.gradient(loss, free)
        nearer = (found_margin < 0) & (found_size < best[0])
        best = (
            tf.where(nearer, found_size, best[0]),
            tf.where(_wide(nearer), found, best[1]),
            best[2] | (found_margin < 0),
        )
        number = tf.cast(step + 1, tf.float32)
        first = _FIRST * state[0] + (1 - _FIRST) * gradient
        second = _SECOND * state[1] + (1 - _SECOND) * tf.square(gradient)
        scaled = tf.sqrt(second / (1 - _SECOND**number)) + 1e-8
        free -= rate * first / (1 - _FIRST**number) / scaled
        return step + 1, free, (first, second), best, weight

    def search(number: tf.Tensor, low: Any, high: Any, weight: Any, size: Any, found: Any) -> Any:
        none = tf.zeros(tf.shape(images)[:1], tf.bool)
        state = (tf.zeros_like(start), tf.zeros_like(start))
        *_, (size, found, succeeded), _ = tf.while_loop(
            lambda step, *_: step < steps,
            descend,
            (0, start, state, (size, found, none), weight),
            parallel_iterations=1,
        )
        high = tf.where(succeeded, tf.minimum(high, weight), high)
        low = tf.where(succeeded, low, tf.maximum(low, weight))
        weight = tf.where(high < 1e9, (low + high) / 2, 10 * weight)
        return number + 1, low, high, weight, size, found

    zeros = tf.zeros(tf.shape(images)[:1])
    *_, found = tf.while_loop(
        lambda number, *_: number < searches,
        search,
        (0, zeros, zeros + 1e10, zeros + constant, zeros + float("inf"), images),
        parallel_iterations=1,
    )
    return tf.ensure_shape(found, images.shape)


def _wide(values: tf.Tensor) -> tf.Tensor:
    return values[:, tf.newaxis, tf.newaxis, tf.newaxis]
