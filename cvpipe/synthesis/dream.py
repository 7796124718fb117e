"""DeepDream (Mordvintsev et al. 2015, Inceptionism): changes an image at several sizes, from coarse
to fine, so that the activations of a layer increase.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from cvpipe.config.prepare import Prepare
from cvpipe.data.prepare import normalize_colors
from cvpipe.synthesis.ascent import normalized_ascent
from cvpipe.synthesis.regularize import blur

Features = Callable[[tf.Tensor], tf.Tensor]


class Dream(NamedTuple):
    """Settings of a dream."""

    octaves: int = 4
    """Number of sizes at which the image is changed."""
    factor: float = 1.4
    """Ratio of the sizes of two successive octaves."""
    steps: int = 20
    """Steps per octave."""
    rate: float = 0.008
    """Mean change of a value in a step; values are in 0…1."""
    jitter: int = 32
    """Largest random shift of the image in a step, in pixels."""


def octave_sizes(size: tuple[int, int], settings: Dream, least: int = 32) -> list[tuple[int, int]]:
    """Return the heights and widths of the octaves, from coarse to fine. The last size is `size`;
    smaller sizes have sides of at least `least` pixels.
    """
    scales = [settings.factor**-n for n in reversed(range(settings.octaves))]
    sizes = [(round(size[0] * scale), round(size[1] * scale)) for scale in scales]
    return [own for own in sizes[:-1] if min(own) >= least] + [size]


def dream(
    features: Sequence[Features],
    images: tf.Tensor,
    sizes: Sequence[tuple[int, int]],
    prepare: Prepare,
    seed: tf.Tensor,
    settings: Dream,
    *,
    channel: int | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the changed images, float32 [B, H, W, C] in 0…1, and the scores before each step,
    [octaves × steps, B]. Graph code.

    The score is the mean square of the layer's output, or the mean of one channel.

    Args:
        features: for each octave, the network up to the layer, from `units.at_size`.
        images: float32 [B, H, W, C] in 0…1.
        sizes: from `octave_sizes`.
        prepare: preparation of the network's images.
        seed: int64 [2], seed of the random shifts. All images of a batch get the same shifts.
        settings: settings of the dream.
        channel: the channel to maximize; None for the whole layer.
    """
    detail, scores, before = tf.zeros_like(images), [], images
    for octave, (size, own) in enumerate(zip(sizes, features, strict=True)):
        before = tf.image.resize(images, size, antialias=True)
        start = before + tf.image.resize(detail, size)
        octave_seed = tf.random.fold_in(seed, octave)

        def score(values: tf.Tensor, step: tf.Tensor, own: Features = own) -> tf.Tensor:
            seen = own(normalize_colors(values, prepare))
            axes = list(range(1, len(seen.shape)))
            if channel is None:
                return tf.reduce_mean(tf.square(seen), axes)
            return tf.reduce_mean(seen[..., channel], axes[:-1])

        def rolled(values: tf.Tensor, step: tf.Tensor, seed: tf.Tensor = octave_seed) -> tf.Tensor:
            shift = tf.random.stateless_uniform(
                [2], tf.random.fold_in(seed, step), -settings.jitter, settings.jitter + 1, tf.int32
            )
            return score(tf.roll(values, shift, [1, 2]), step)

        start = tf.ensure_shape(start, [images.shape[0], *size, images.shape[-1]])
        dreamt, reached = normalized_ascent(
            rolled,
            start,
            steps=settings.steps,
            rate=settings.rate,
            after=lambda values, gradient, step: tf.clip_by_value(values, 0.0, 1.0),
            smooth=_in_all_scales,
        )
        detail = dreamt - before
        scores.append(reached)
    return before + detail, tf.concat(scores, 0)


def _in_all_scales(gradient: tf.Tensor) -> tf.Tensor:
    """Add blurred copies to the gradient, so that fine frequencies don't outweigh coarse ones. The
    authors' code uses a Laplacian pyramid for this.
    """
    return tf.add_n([_unit(gradient), *(_unit(blur(gradient, sigma)) for sigma in (1.0, 2.0))])


def _unit(gradient: tf.Tensor) -> tf.Tensor:
    return tf.math.divide_no_nan(gradient, tf.math.reduce_std(gradient, [1, 2, 3], keepdims=True))
