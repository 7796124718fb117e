"""Images as spectra, so that gradient ascent finds smooth images (Olah et al. 2017, Feature
visualization, "Preconditioning and parameterization").

The amplitude of a coefficient is divided by its frequency, as in spectra of photos, and colors are
decorrelated. Then an ascent that changes all coefficients equally produces images with the spectrum
of photos. Dimensions: R = W // 2 + 1 columns of a spectrum.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

COLORS = np.array([[1.29, 0.65, 0.25], [1.20, 0.0, -0.46], [1.11, -0.76, 0.21]], np.float32)
"""The columns are the principal axes of the logits of red, green and blue: lightness, red to blue,
and green to magenta. The length of a column is the standard deviation along its axis. Measured on
86 photos: the 16 color photos of scikit-image and scikit-learn, and photos of groceries.
"""
GRAY = np.array([[2.08]], np.float32)
"""Standard deviation of the logit of gray pixels: the length of the axis of lightness."""
DARKEST = 0.01
"""Pixels are clipped to this distance from 0 and 1 before their logit is computed."""


def random_spectra(seeds: tf.Tensor, size: tuple[int, int, int], spread: float = 0.02) -> tf.Tensor:
    """Draw spectra of nearly gray images.

    Args:
        seeds: int64 [B, 2], one for each image.
        size: H, W, C.
        spread: standard deviation of a coefficient, divided by the square root of the number of
            pixels.

    Returns:
        float32 [B, C, H, R, 2], real and imaginary parts.
    """
    height, width, channels = size
    shape = [channels, height, width // 2 + 1, 2]
    drawn = [tf.random.stateless_normal(shape, seed) for seed in tf.unstack(seeds)]
    return spread * (height * width) ** 0.5 * tf.stack(drawn)


def images_of(spectra: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Return the images of spectra [B, C, H, R, 2]: float32 [B, H, W, C] in 0…1.

    Args:
        spectra: real and imaginary parts, as from `random_spectra`.
        size: H, W.
    """
    coefficients = tf.complex(spectra[..., 0], spectra[..., 1])
    scale = tf.cast(_scale(size), tf.complex64)
    plain = tf.signal.irfft2d(coefficients * scale, size)
    plain = tf.ensure_shape(plain, [*spectra.shape[:2], *size])
    axes = COLORS if spectra.shape[1] == 3 else GRAY
    return tf.sigmoid(tf.einsum("bkhw,ck->bhwc", plain, axes))


def spectra_of(images: tf.Tensor) -> tf.Tensor:
    """Return the spectra of images, float32 [B, H, W, C] in 0…1: the inverse of `images_of`."""
    clipped = tf.clip_by_value(images, DARKEST, 1 - DARKEST)
    axes = np.linalg.inv(COLORS if images.shape[-1] == 3 else GRAY)
    logits = tf.math.log(clipped) - tf.math.log1p(-clipped)
    plain = tf.einsum("bhwc,kc->bkhw", logits, axes)
    size = tuple(images.shape[1:3])
    coefficients = tf.signal.rfft2d(plain) / tf.cast(_scale(size), tf.complex64)
    return tf.stack([tf.math.real(coefficients), tf.math.imag(coefficients)], -1)


def _scale(size: tuple[int, int]) -> np.ndarray:
    """Return the amplitude of each frequency, float32 [H, R]: 1 / cycles per pixel."""
    height, width = size
    rows, columns = np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width)[np.newaxis]
    frequency = np.maximum(np.hypot(rows, columns), 1 / max(size))
    return np.asarray(1 / frequency, np.float32)
