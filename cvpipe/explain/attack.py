"""Adversarial examples within a ball around prepared images and within the range of pixels.

ε is a change of pixels in 0…1, as in the papers. Pixels of prepared images are scaled, so a `Ball`
has the scale of each channel.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import tensorflow as tf

from cvpipe.config.prepare import Prepare
from cvpipe.explain.gradients import pixel_gradient
from cvpipe.explain.score import Score, Subject, chosen

Norm = Literal["linf", "l2"]


class Ball(NamedTuple):
    """The set of images allowed for an attack."""

    epsilon: float
    """Largest norm of the change of an image with pixels in 0…1."""
    norm: Norm
    scale: tf.Tensor
    """float32 [C]: change of a prepared pixel if the pixel in 0…1 changes by 1."""
    low: tf.Tensor
    """float32 [C]: value of a black pixel after preparation."""
    high: tf.Tensor
    """float32 [C]: value of a white pixel after preparation."""

    def project(self, images: tf.Tensor, around: tf.Tensor) -> tf.Tensor:
        """Project images onto the ball around `around`, of the same shape."""
        change = (images - around) / self.scale
        if self.norm == "linf":
            change = tf.clip_by_value(change, -self.epsilon, self.epsilon)
        else:
            length = length_of(change)
            change *= tf.minimum(1.0, self.epsilon / tf.maximum(length, 1e-12))
        return tf.clip_by_value(around + change * self.scale, self.low, self.high)

    def holds(self, images: tf.Tensor, around: tf.Tensor) -> tf.Tensor:
        """Return True for images whose change is inside the ball, bool [B]."""
        change = (images - around) / self.scale
        size = (
            tf.reduce_max(tf.abs(change), [1, 2, 3])
            if self.norm == "linf"
            else length_of(change)[:, 0, 0, 0]
        )
        return size <= self.epsilon

    def step(self, gradient: tf.Tensor, size: float) -> tf.Tensor:
        """Return the steepest ascent step of this size, for pixels in 0…1."""
        direction = gradient * self.scale
        if self.norm == "linf":
            return size * tf.sign(direction) * self.scale
        length = length_of(direction)
        return size * tf.math.divide_no_nan(direction, length) * self.scale


def make_ball(epsilon: float, norm: Norm, prepare: Prepare) -> Ball:
    """Return the ball for images with this preparation."""
    mean, std = (tf.constant(values, tf.float32) for values in prepare.scaling)
    mean, scale = (
        tf.broadcast_to(mean, [prepare.channels]),
        1 / tf.broadcast_to(std, [prepare.channels]),
    )
    return Ball(epsilon, norm, scale, -mean * scale, (1 - mean) * scale)


def attack_loss(subject: Subject, targeted: bool = False) -> Score:
    """Return the function that an attack maximizes: the cross-entropy with the true class, or, if
    `targeted`, minus the cross-entropy with the target class.
    """

    def loss(images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
            classes, subject.all_scores(images)
        )
        return -cross_entropy if targeted else cross_entropy

    return loss


def fgsm(loss: Score, images: tf.Tensor, classes: tf.Tensor, ball: Ball) -> tf.Tensor:
    """Return images after one step along the sign of the gradient (Goodfellow et al. 2015, section
    4).
    """
    gradient = pixel_gradient(loss, images, classes)
    return ball.project(images + ball.step(gradient, ball.epsilon), images)


def pgd(
    loss: Score,
    images: tf.Tensor,
    classes: tf.Tensor,
    ball: Ball,
    *,
    steps: int = 20,
    step_size: float | None = None,
    seed: tf.Tensor | None = None,
) -> tf.Tensor:
    """Return images after projected gradient ascent (Madry et al. 2018, section 2.1).

    Args:
        loss: function to maximize.
        images: prepared images.
        classes: one class for each image.
        ball: allowed images.
        steps: number of steps.
        step_size: change by a step, for pixels in 0…1; None: 2.5 × ε / steps.
        seed: int64 [2], to start from a random image of the ball; None to start from the image.
    """
    size = 2.5 * ball.epsilon / steps if step_size is None else step_size
    start = images
    if seed is not None:
        drawn = tf.random.stateless_uniform(tf.shape(images), seed, -1.0, 1.0)
        start = ball.project(images + ball.epsilon * drawn * ball.scale, images)

    def ascend(step: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        gradient = pixel_gradient(loss, found, classes)
        return step + 1, ball.project(found + ball.step(gradient, size), images)

    _, found = tf.while_loop(
        lambda step, _: step < steps, ascend, (0, start), parallel_iterations=1
    )
    return tf.ensure_shape(found, images.shape)


def deep_fool(
    subject: Subject,
    images: tf.Tensor,
    ball: Ball,
    *,
    classes: int = 10,
    steps: int = 50,
    overshoot: float = 0.02,
) -> tf.Tensor:
    """Return the nearest images of another class, by linear steps in L2 (Moosavi-Dezfooli et al.
    2016, algorithm 2). Changes aren't limited to `ball.epsilon`.

    Args:
        subject: the network.
        images: prepared images.
        ball: gives the range and the scale of pixels.
        classes: number of most probable classes to try.
        steps: largest number of steps.
        overshoot: fraction by which each step is lengthened, so that it crosses the boundary.
    """
    original = tf.argmax(subject.all_scores(images), axis=1, output_type=tf.int32)
    count = min(classes, subject.all_scores(images[:1]).shape[1])

    def move(step: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(found)
            scores = subject.all_scores(found)
            ranked = tf.math.top_k(tf.stop_gradient(scores), count).indices
            original_score = chosen(scores, original)
            others = [chosen(scores, ranked[:, n]) - original_score for n in range(count)]
        best = tf.fill([tf.shape(images)[0]], float("inf"))
        shortest = tf.zeros_like(images)
        for n, other in enumerate(others):
            slope = tape.gradient(other, found) * ball.scale
            length = length_of(slope)[:, 0, 0, 0]
            distance = tf.abs(other) / tf.maximum(length, 1e-12)
            distance = tf.where(ranked[:, n] == original, float("inf"), distance)
            nearer = distance < best
            best = tf.where(nearer, distance, best)
            unit = tf.math.divide_no_nan(slope, length[:, tf.newaxis, tf.newaxis, tf.newaxis])
            step_there = (distance + 1e-4)[:, tf.newaxis, tf.newaxis, tf.newaxis] * unit
            shortest = tf.where(nearer[:, tf.newaxis, tf.newaxis, tf.newaxis], step_there, shortest)
        unchanged = tf.argmax(scores, axis=1, output_type=tf.int32) == original
        moved = tf.clip_by_value(
            found + (1 + overshoot) * shortest * ball.scale, ball.low, ball.high
        )
        return step + 1, tf.where(unchanged[:, tf.newaxis, tf.newaxis, tf.newaxis], moved, found)

    _, found = tf.while_loop(lambda step, _: step < steps, move, (0, images), parallel_iterations=1)
    return tf.ensure_shape(found, images.shape)


def length_of(images: tf.Tensor) -> tf.Tensor:
    """Return the Euclidean length of each image, [B, 1, 1, 1]."""
    return tf.sqrt(tf.reduce_sum(tf.square(images), [1, 2, 3], keepdims=True))
