"""Randomized smoothing: the class that a network predicts most often under noise, and a radius
within which changes of the image can't change this class (Cohen, Rosenfeld and Kolter 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy import stats

from cvpipe.explain.score import Subject

ABSTAIN = -1


class Certified(NamedTuple):
    """Certified answers to images."""

    classes: np.ndarray
    """int [B]: the class of the smoothed network; ABSTAIN where the samples aren't conclusive."""
    radii: np.ndarray
    """float64 [B]: L2 norm of changes, for pixels in 0…1, up to which the class stays the same with
    a probability of 1 − alpha; 0 for ABSTAIN.
    """


def certify(
    count: Callable[[tf.Tensor, int, int], np.ndarray],
    images: tf.Tensor,
    noise: float,
    *,
    guesses: int = 100,
    samples: int = 1000,
    alpha: float = 0.001,
) -> Certified:
    """Return the certified answers of a smoothed network (Cohen et al. 2019, section 3.2.2).

    Args:
        count: function from `class_counts`.
        images: prepared images.
        noise: standard deviation of the noise, for pixels in 0…1.
        guesses: samples from which the class is chosen.
        samples: samples from which the probability of the class is bounded; more samples allow
            larger radii.
        alpha: probability that a radius is too large.
    """
    if not len(images):
        return Certified(np.zeros(0, np.int64), np.zeros(0))
    classes = count(images, guesses, 0).argmax(axis=1)
    hits = count(images, samples, 1)[np.arange(len(classes)), classes]
    # Clopper and Pearson's lower bound of the probability of the class.
    lowest = stats.beta.ppf(alpha, hits, samples - hits + 1)
    lowest = np.where(hits > 0, lowest, 0.0)
    certain = lowest > 0.5
    radii = noise * stats.norm.ppf(np.where(certain, lowest, 0.5))
    return Certified(np.where(certain, classes, ABSTAIN), radii)


def class_counts(
    subject: Subject, noise: float, scale: tf.Tensor, seed: int, batch: int = 100
) -> Callable[[tf.Tensor, int, int], np.ndarray]:
    """Return the function that counts a network's classes under noise.

    It maps prepared images, a number of samples (a multiple of `batch`) and a number that selects
    the noise to counts, int [B, K]. All images have the same noise, so an image's counts don't
    depend on the other images.

    Args:
        subject: the network.
        noise: standard deviation, for pixels in 0…1.
        scale: float32 [C], the scale of a `Ball`.
        seed: random seed of the noise.
        batch: number of samples in a batch of the network.
    """

    @tf.function(reduce_retracing=True, autograph=False)
    def counts(image: tf.Tensor, samples: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
        def add(number: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            draw_seed = tf.random.fold_in(tf.stack([tf.constant(seed, tf.int64), draw]), number)
            drawn = tf.random.stateless_normal([batch, *image.shape], draw_seed, stddev=noise)
            scores = subject.all_scores(image + drawn * scale)
            found = tf.one_hot(tf.argmax(scores, axis=1), scores.shape[1], dtype=tf.int32)
            return number + 1, total + tf.reduce_sum(found, axis=0)

        classes = subject.all_scores(image[tf.newaxis]).shape[1]
        _, total = tf.while_loop(
            lambda number, _: number < samples // batch,
            add,
            (tf.constant(0, tf.int64), tf.zeros([classes], tf.int32)),
            parallel_iterations=1,
        )
        return total

    def count(images: tf.Tensor, samples: int, draw: int) -> np.ndarray:
        numbers = tf.constant([samples, draw], tf.int64)
        return np.stack([counts(image, *tf.unstack(numbers)).numpy() for image in images])

    return count
