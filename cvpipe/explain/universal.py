"""One change for all images: a universal perturbation, or a patch."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from cvpipe.explain.attack import Ball
from cvpipe.explain.score import Score

Batches = Iterable[tuple[tf.Tensor, tf.Tensor]]
"""Prepared images and their classes."""


def learn_perturbation(
    loss: Score, batches: Batches, ball: Ball, shape: tuple[int, int, int], *, passes: int = 5
) -> tf.Tensor:
    """Return a change [1, H, W, C] that raises the loss of all images (Moosavi-Dezfooli et al.
    2017), by projected ascent on the mean gradient of each batch (Shafahi et al. 2020, algorithm
    1).

    Args:
        loss: function to maximize.
        batches: images to learn from, the same in each pass.
        ball: the allowed changes.
        shape: shape of an image.
        passes: number of passes over the batches.
    """

    @tf.function(reduce_retracing=True, autograph=False)
    def learned(change: tf.Tensor, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(change)
            changed = tf.clip_by_value(images + change, ball.low, ball.high)
            total = tf.reduce_mean(loss(changed, classes))
        gradient = tape.gradient(total, change)
        return bounded(change + ball.step(gradient, ball.epsilon / 4), ball)

    change = tf.zeros([1, *shape])
    for _ in range(passes):
        for images, classes in batches:
            change = learned(change, images, classes)
    return change


def bounded(change: tf.Tensor, ball: Ball) -> tf.Tensor:
    """Project changes [B, H, W, C] of images onto the ball around no change."""
    free = ball._replace(low=ball.low - ball.high, high=ball.high - ball.low)
    return free.project(change, tf.zeros_like(change))


def learn_patch(
    loss: Score,
    batches: Batches,
    ball: Ball,
    side: int,
    channels: int,
    *,
    seed: tf.Tensor,
    passes: int = 10,
    rate: float = 0.05,
) -> tf.Tensor:
    """Return a square picture [side, side, C] that raises the loss wherever it covers an image
    (Brown et al. 2017). It learns at random places, without rotation or scaling.

    Args:
        loss: function to maximize.
        batches: images to learn from, the same in each pass.
        ball: gives the range and the scale of pixels.
        side: height and width in pixels.
        channels: number of channels of the images.
        seed: int64 [2].
        passes: number of passes over the batches.
        rate: change of a pixel per batch, for pixels in 0…1.
    """

    @tf.function(reduce_retracing=True, autograph=False)
    def learned(
        patch: tf.Tensor, images: tf.Tensor, classes: tf.Tensor, batch_seed: tf.Tensor
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(patch)
            changed = put_patch(images, patch, batch_seed)
            total = tf.reduce_mean(loss(changed, classes))
        gradient = tape.gradient(total, patch)
        return tf.clip_by_value(patch + rate * tf.sign(gradient) * ball.scale, ball.low, ball.high)

    patch = tf.tile(((ball.low + ball.high) / 2)[tf.newaxis, tf.newaxis], [side, side, 1])
    patch = tf.ensure_shape(patch, [side, side, channels])
    number = 0
    for _ in range(passes):
        for images, classes in batches:
            batch_seed = tf.random.fold_in(seed, tf.constant(number, tf.int64))
            patch, number = learned(patch, images, classes, batch_seed), number + 1
    return patch


def put_patch(images: tf.Tensor, patch: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Cover a random square of each image [B, H, W, C] with a patch [side, side, C]."""
    height, width = images.shape[1:3]
    side, count = patch.shape[0], tf.shape(images)[0]
    drawn = tf.random.stateless_uniform([2, count], seed)
    room = tf.constant([[height - side + 1], [width - side + 1]], tf.float32)
    top, left = tf.unstack(tf.cast(tf.floor(drawn * room), tf.int32))
    rows = tf.range(height) - top[:, tf.newaxis]  # [B, H]
    columns = tf.range(width) - left[:, tf.newaxis]  # [B, W]
    inside = ((rows >= 0) & (rows < side))[:, :, tf.newaxis] & ((columns >= 0) & (columns < side))[
        :, tf.newaxis
    ]
    lines = tf.gather(patch, tf.clip_by_value(rows, 0, side - 1))  # [B, H, side, C]
    placed = tf.gather(
        lines, tf.clip_by_value(columns, 0, side - 1), axis=2, batch_dims=1
    )  # [B, H, W, C]
    return tf.where(inside[..., tf.newaxis], placed, images)
