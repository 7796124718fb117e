"""Images that activate a unit or a class most (Erhan et al. 2009; Simonyan et al. 2014, section
2), with the regularization of Yosinski et al. 2015 or Olah et al. 2017.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from cvpipe.config.prepare import Prepare
from cvpipe.data.prepare import normalize_colors
from cvpipe.synthesis.ascent import adam_ascent, normalized_ascent
from cvpipe.synthesis.regularize import blur, clip_smallest, random_view, total_variation
from cvpipe.synthesis.spectrum import images_of, random_spectra
from cvpipe.synthesis.units import Activation

_VIEWS = 1
"""Separates the draws of views from those of an image's start."""


class Spectral(NamedTuple):
    """Ascent of a spectrum by Adam, seen in random views (Olah et al. 2017)."""

    steps: int = 256
    rate: float = 1.2
    """Change of a coefficient in a step."""
    jitter: float = 0.055
    """Share of a side that a view is moved by at most."""
    scales: tuple[float, float] = (0.9, 1.15)
    """Least and largest factor that a view is scaled by."""
    variation: float = 6e-4
    """Weight of the total variation, with an image's shorter side as the unit of length."""


class Pixelwise(NamedTuple):
    """Ascent of pixels, with the regularization of Yosinski et al. 2015, table 1."""

    steps: int = 400
    rate: float = 0.01
    """Mean change of a value in a step."""
    jitter: float = 0.02
    """Share of a side that a view is moved by at most."""
    decay: float = 0.01
    """Share by which each pixel comes nearer to gray in a step: L2 decay."""
    blur_every: int = 4
    """Steps from one blur to the next."""
    blur_sigma: float = 0.6
    """Pixels; 0 for no blur."""
    clip_norm: float = 0.1
    """Share of the pixels that are set to gray in a step, those of the smallest norm."""
    clip_contribution: float = 0.0
    """Share of the pixels set to gray, those whose value × gradient is smallest."""


def spectral_images(
    activation: Activation, seeds: tf.Tensor, prepare: Prepare, settings: Spectral
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return images that activate B units most, float32 [B, H, W, C] in 0…1, and the activations
    before each step, [steps, B]. Graph code.

    Args:
        activation: of B prepared images, one for each unit.
        seeds: int64 [B, 2]: what an image starts from. Views are the same for all images of a
            batch, and don't depend on its size: an image is the same alone and in a batch.
        prepare: as the network's images are prepared.
        settings: of the ascent.
    """
    size = prepare.size
    weight = settings.variation * min(size) ** 2

    def score(spectra: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        images = images_of(spectra, size)
        own = tf.random.fold_in(_view_seed(), step)
        view = random_view(images, own, settings.jitter, settings.scales)
        return activation(normalize_colors(view, prepare)) - weight * total_variation(images)

    start = random_spectra(seeds, (*size, prepare.channels))
    spectra, scores = adam_ascent(score, start, steps=settings.steps, rate=settings.rate)
    return images_of(spectra, size), scores


def pixel_images(
    activation: Activation, seeds: tf.Tensor, prepare: Prepare, settings: Pixelwise
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the same as `spectral_images`, by ascent of the pixels. Graph code."""

    def score(offsets: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        own = tf.random.fold_in(_view_seed(), step)
        view = random_view(0.5 + offsets, own, settings.jitter)
        return activation(normalize_colors(view, prepare))

    def regularize(offsets: tf.Tensor, gradient: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        offsets = tf.clip_by_value((1 - settings.decay) * offsets, -0.5, 0.5)
        if settings.blur_sigma > 0:
            offsets = tf.cond(
                step % settings.blur_every == 0,
                lambda: blur(offsets, settings.blur_sigma),
                lambda: offsets,
            )
        norm = tf.norm(offsets, axis=-1)
        contribution = tf.abs(tf.reduce_sum(offsets * gradient, -1))
        offsets = clip_smallest(offsets, norm, settings.clip_norm)
        return clip_smallest(offsets, contribution, settings.clip_contribution)

    shape = [*prepare.size, prepare.channels]
    start = 0.05 * tf.stack([tf.random.stateless_normal(shape, own) for own in tf.unstack(seeds)])
    offsets, scores = normalized_ascent(
        score, start, steps=settings.steps, rate=settings.rate, after=regularize
    )
    return 0.5 + offsets, scores


def _view_seed() -> tf.Tensor:
    return tf.constant([_VIEWS, 0], tf.int64)
