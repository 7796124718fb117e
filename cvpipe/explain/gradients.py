"""Maps computed from gradients of a score with respect to pixels. Functions named after a method
return maps, float32 [B, H, W].
"""

from __future__ import annotations

import tensorflow as tf

from cvpipe.explain.score import Score


def saliency(score: Score, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Return the largest absolute gradient over channels (Simonyan et al. 2014, section 3)."""
    return tf.reduce_max(tf.abs(pixel_gradient(score, images, classes)), axis=-1)


def gradient_input(score: Score, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Return gradient × input, summed over channels (Shrikumar et al. 2016)."""
    return tf.reduce_sum(images * pixel_gradient(score, images, classes), axis=-1)


def integrated_gradients(
    score: Score,
    images: tf.Tensor,
    classes: tf.Tensor,
    *,
    baseline: tf.Tensor | float = 0.0,
    steps: int = 50,
) -> tf.Tensor:
    """Return integrated gradients, summed over channels (Sundararajan et al. 2017, equation 3).

    The sum over a map equals the score of the image minus that of the baseline, up to the error of
    the midpoint rule.

    Args:
        score: score of a class.
        images: prepared images.
        classes: one class for each image.
        baseline: an image without content, which broadcasts to `images`; 0 is the color
            `prepare.mean`, or black if the network's first layer normalizes.
        steps: number of points between baseline and image.
    """
    difference = images - baseline

    def add(step: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        share = (tf.cast(step, tf.float32) + 0.5) / steps
        return step + 1, total + pixel_gradient(score, baseline + share * difference, classes)

    _, total = tf.while_loop(
        lambda step, _: step < steps, add, (0, tf.zeros_like(images)), parallel_iterations=1
    )
    return tf.reduce_sum(difference * total / steps, axis=-1)


def smooth_grad(
    score: Score,
    images: tf.Tensor,
    classes: tf.Tensor,
    *,
    seed: tf.Tensor,
    samples: int = 25,
    noise: float = 0.15,
) -> tf.Tensor:
    """Average the gradient over noisy copies of an image, and return the largest absolute value
    over channels (Smilkov et al. 2017, section 2). All images get the same noise, so a map does not
    depend on the other images.

    Args:
        score: score of a class.
        images: prepared images.
        classes: one class for each image.
        seed: int64 [2].
        samples: number of copies.
        noise: standard deviation, as a share of an image's range.
    """
    axes = [1, 2, 3]
    spread = tf.reduce_max(images, axes, keepdims=True) - tf.reduce_min(images, axes, keepdims=True)

    def add(number: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        sample_seed = tf.random.fold_in(seed, tf.cast(number, tf.int64))
        normal = tf.random.stateless_normal([1, *images.shape[1:]], sample_seed)
        return number + 1, total + pixel_gradient(score, images + noise * spread * normal, classes)

    _, total = tf.while_loop(
        lambda number, _: number < samples, add, (0, tf.zeros_like(images)), parallel_iterations=1
    )
    return tf.reduce_max(tf.abs(total / samples), axis=-1)


def pixel_gradient(score: Score, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Return the gradient of each image's score with respect to its pixels, [B, H, W, C]."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(score(images, classes))
    gradient = tape.gradient(total, images)
    return tf.zeros_like(images) if gradient is None else gradient
