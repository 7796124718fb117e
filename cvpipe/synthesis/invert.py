"""Inversion of features (Mahendran and Vedaldi 2015, Understanding deep image representations by
inverting them): finding an image with given features shows which information a layer keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from cvpipe.config.prepare import Prepare
from cvpipe.data.prepare import normalize_colors
from cvpipe.synthesis.ascent import adam_ascent
from cvpipe.synthesis.regularize import total_variation
from cvpipe.synthesis.spectrum import images_of, random_spectra


class Inversion(NamedTuple):
    """Settings of an inversion."""

    steps: int = 300
    rate: float = 2.0
    """Change of a coefficient in a step."""
    variation: float = 1.0
    """Weight of the total variation, with β = 2."""
    length: float = 1e-3
    """Weight of the mean sixth power of a pixel's distance from gray (α = 6 in the paper)."""


def invert(
    features: Callable[[tf.Tensor], tf.Tensor],
    images: tf.Tensor,
    prepare: Prepare,
    seeds: tf.Tensor,
    settings: Inversion,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return images whose features equal those of the given images, float32 [B, H, W, C] in 0…1,
    and the losses before each step, [steps, B]. Graph code.

    The error of an image is ‖Φ(x) − Φ₀‖² / ‖Φ₀‖², as in the paper's equation 5.

    Args:
        features: Φ, which maps prepared images to a layer's output.
        images: images to invert, [B, H, W, C] in 0…1.
        prepare: preparation of the network's images.
        seeds: int64 [B, 2], seeds of the random initial images.
        settings: settings of the inversion.
    """
    size, channels = (images.shape[1], images.shape[2]), images.shape[3]
    wanted = tf.stop_gradient(features(normalize_colors(images, prepare)))
    axes = list(range(1, len(wanted.shape)))
    whole = tf.reduce_sum(tf.square(wanted), axes)

    def error(found: tf.Tensor) -> tf.Tensor:
        seen = features(normalize_colors(found, prepare))
        return tf.math.divide_no_nan(tf.reduce_sum(tf.square(seen - wanted), axes), whole)

    def score(spectra: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        found = images_of(spectra, size)
        length = tf.reduce_mean((2 * found - 1) ** 6, [1, 2, 3])
        return -(
            error(found) + settings.variation * total_variation(found) + settings.length * length
        )

    start = random_spectra(seeds, (*size, channels))
    spectra, scores = adam_ascent(score, start, steps=settings.steps, rate=settings.rate)
    return images_of(spectra, size), -scores
