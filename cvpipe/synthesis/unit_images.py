"""Images that maximize the activation of a unit or the score of a class (Erhan et al. 2009;
Simonyan et al. 2014, section 2), with the regularization of Yosinski et al. 2015 or Olah et al.
2017.
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
"""Seed that separates the random views from the random initial images."""


class Spectral(NamedTuple):
    """Settings for optimizing an image's spectrum by Adam, under random views (Olah et al.
    2017).
    """

    steps: int = 256
    rate: float = 1.2
    """Change of a coefficient in a step."""
    jitter: float = 0.055
    """Largest shift of a view, as a share of a side."""
    scales: tuple[float, float] = (0.9, 1.15)
    """Smallest and largest factor by which a view is scaled."""
    variation: float = 6e-4
    """Weight of the total variation, which is measured with the shorter side as the unit of
    length.
    """


class Pixelwise(NamedTuple):
    """Settings for optimizing an image's pixels, with the regularization of Yosinski et al. 2015,
    table 1.
    """

    steps: int = 400
    rate: float = 0.01
    """Mean change of a value in a step."""
    jitter: float = 0.02
    """Largest shift of a view, as a share of a side."""
    decay: float = 0.01
    """L2 decay: in each step, the distance of a pixel from gray shrinks by this share."""
    blur_every: int = 4
    """The image is blurred after every `blur_every` steps."""
    blur_sigma: float = 0.6
    """Standard deviation of the blur in pixels; 0 for no blur."""
    clip_norm: float = 0.1
    """In each step, this share of the pixels is set to gray: the pixels with the smallest norm."""
    clip_contribution: float = 0.0
    """In each step, this share of the pixels is set to gray: the pixels with the smallest |value ×
    gradient|.
    """


def spectral_images(
    activation: Activation, seeds: tf.Tensor, prepare: Prepare, settings: Spectral
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return images that maximize the activations of B units, float32 [B, H, W, C] in 0…1, and the
    activations before each step, [steps, B]. Graph code.

    Args:
        activation: maps B prepared images to the activations of B units, one unit per image.
        seeds: int64 [B, 2], seeds of the initial images. The random views are the same for all
            images, so an image doesn't depend on the others in its batch.
        prepare: preparation of the network's images.
        settings: settings of the ascent.
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
    """Optimize pixels; otherwise like `spectral_images`. Graph code."""

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
