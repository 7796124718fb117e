"""Gradient ascent on scores, as graph code: call it inside a `tf.function`. All steps are one
`tf.while_loop`.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

Score = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Maps values [B, …] and the step's number, int32, to the scores to maximize, float32 [B]."""
Change = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
"""Maps the values after a step, [B, …], the smoothed gradient before it, and the step's number,
int32, to new values.
"""


def adam_ascent(
    score: Score, start: tf.Tensor, *, steps: int, rate: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Maximize scores by Adam (Kingma and Ba 2015, algorithm 1).

    Args:
        score: the score to maximize.
        start: initial values, float32 [B, …].
        steps: number of steps.
        rate: approximate change of a value in a step. It falls to a tenth along a cosine.

    Returns:
        The values after the last step, and the scores before each step, float32 [steps, B].
    """
    first_decay, second_decay = 0.9, 0.999

    def move(
        step: tf.Tensor,
        values: tf.Tensor,
        mean: tf.Tensor,
        square: tf.Tensor,
        scores: tf.TensorArray,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.TensorArray]:
        reached, gradient = scored(score, values, step)
        mean = first_decay * mean + (1 - first_decay) * gradient
        square = second_decay * square + (1 - second_decay) * tf.square(gradient)
        count = tf.cast(step + 1, tf.float32)
        unbiased = mean / (1 - first_decay**count)
        magnitude = tf.sqrt(square / (1 - second_decay**count)) + 1e-8
        change = _falling(rate, step, steps) * unbiased / magnitude
        return step + 1, values + change, mean, square, scores.write(step, reached)

    nothing = tf.zeros_like(start)
    scores = tf.TensorArray(tf.float32, steps, element_shape=start.shape[:1])
    _, values, _, _, scores = tf.while_loop(
        lambda step, *_: step < steps,
        move,
        (0, start, nothing, nothing, scores),
        parallel_iterations=1,
    )
    return tf.ensure_shape(values, start.shape), scores.stack()


def normalized_ascent(
    score: Score,
    start: tf.Tensor,
    *,
    steps: int,
    rate: float,
    after: Change = lambda values, gradient, step: values,
    smooth: Callable[[tf.Tensor], tf.Tensor] = lambda gradient: gradient,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Maximize scores by steps of equal size along the gradient.

    Args:
        score: the score to maximize.
        start: initial values, float32 [B, …].
        steps: number of steps.
        rate: mean absolute change of an image's values in a step.
        after: function that changes the values after each step.
        smooth: function that changes the gradient before it is scaled.

    Returns:
        The values after the last step, and the scores before each step, float32 [steps, B].
    """
    axes = list(range(1, len(start.shape)))

    def move(
        step: tf.Tensor, values: tf.Tensor, scores: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        reached, gradient = scored(score, values, step)
        gradient = smooth(gradient)
        size = tf.reduce_mean(tf.abs(gradient), axes, keepdims=True)
        moved = values + rate * tf.math.divide_no_nan(gradient, size)
        return step + 1, after(moved, gradient, step), scores.write(step, reached)

    scores = tf.TensorArray(tf.float32, steps, element_shape=start.shape[:1])
    _, values, scores = tf.while_loop(
        lambda step, *_: step < steps, move, (0, start, scores), parallel_iterations=1
    )
    return tf.ensure_shape(values, start.shape), scores.stack()


def scored(score: Score, values: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the scores, [B], and their gradients with respect to the values, [B, …]."""
    with tf.GradientTape() as tape:
        tape.watch(values)
        reached = score(values, step)
        total = tf.reduce_sum(reached)
    gradient = tape.gradient(total, values)
    return reached, tf.zeros_like(values) if gradient is None else gradient


def _falling(rate: float, step: tf.Tensor, steps: int) -> tf.Tensor:
    way = tf.cast(step, tf.float32) / steps
    return rate * (0.1 + 0.45 * (1 + tf.cos(3.141592653589793 * way)))
