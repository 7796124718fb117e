"""Attacks that change few pixels and need no gradients."""

from __future__ import annotations

import tensorflow as tf

from cvpipe.explain.attack import Ball
from cvpipe.explain.score import Score


def few_pixels(
    loss: Score,
    images: tf.Tensor,
    classes: tf.Tensor,
    ball: Ball,
    *,
    pixels: int,
    seed: tf.Tensor,
    population: int = 100,
    generations: int = 30,
) -> tf.Tensor:
    """Return images in which at most `pixels` pixels differ, found by differential evolution (Su,
    Vargas and Sakurai 2019, section 3). An image's result doesn't depend on the other images.

    Args:
        loss: function to maximize.
        images: prepared images.
        classes: one class for each image.
        ball: gives the range of pixels.
        pixels: number of pixels to change.
        seed: int64 [2].
        population: candidates in each generation.
        generations: number of generations after the first.
    """
    height, width, channels = images.shape[1:]
    genes = 2 + channels

    def changed(image: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        """Change an image by candidates [P, pixels, genes]: places and colors in 0…1."""
        size = tf.constant([height, width], tf.float32)
        place = tf.cast(candidates[..., :2] * (size - 1e-3), tf.int32)
        color = ball.low + candidates[..., 2:] * (ball.high - ball.low)
        which = tf.broadcast_to(tf.range(population)[:, tf.newaxis], [population, pixels])
        index = tf.concat([which[..., tf.newaxis], place], axis=-1)
        copies = tf.tile(image[tf.newaxis], [population, 1, 1, 1])
        return tf.tensor_scatter_nd_update(copies, index, color)

    def evolved(image: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        labels = tf.fill([population], label)

        def fitness(candidates: tf.Tensor) -> tf.Tensor:
            return loss(changed(image, candidates), labels)

        def generation(
            number: tf.Tensor, candidates: tf.Tensor, fit: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            generation_seed = tf.random.fold_in(seed, tf.cast(number, tf.int64))
            parents = tf.random.stateless_uniform(
                [3, population], generation_seed, 0, population, tf.int32
            )
            a, b, c = (tf.gather(candidates, parent) for parent in tf.unstack(parents))
            children = tf.clip_by_value(a + 0.5 * (b - c), 0.0, 1.0)
            child_fit = fitness(children)
            better = child_fit > fit
            return (
                number + 1,
                tf.where(better[:, tf.newaxis, tf.newaxis], children, candidates),
                tf.where(better, child_fit, fit),
            )

        first = tf.random.stateless_uniform([population, pixels, genes], seed)
        _, candidates, fit = tf.while_loop(
            lambda number, *_: number <= generations,
            generation,
            (1, first, fitness(first)),
            parallel_iterations=1,
        )
        return changed(image, candidates)[tf.argmax(fit)]

    found = tf.map_fn(
        lambda pair: evolved(*pair),
        (images, classes),
        fn_output_signature=tf.TensorSpec(images.shape[1:]),
        parallel_iterations=1,
    )
    return tf.ensure_shape(found, images.shape)
