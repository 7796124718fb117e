"""Noise that is independent in each pixel and channel."""

from __future__ import annotations

import numpy as np

GAUSSIAN = (0.08, 0.12, 0.18, 0.26, 0.38)
PHOTONS = (60, 25, 12, 5, 3)
IMPULSES = (0.03, 0.06, 0.09, 0.17, 0.27)


def gaussian_noise(
    image: np.ndarray, severity: int, random: np.random.Generator, scale: float
) -> np.ndarray:
    """Add normal noise with the standard deviation GAUSSIAN."""
    return image + GAUSSIAN[severity] * random.standard_normal(image.shape)


def shot_noise(
    image: np.ndarray, severity: int, random: np.random.Generator, scale: float
) -> np.ndarray:
    """Replace each value by a Poisson count, whose mean for white is PHOTONS."""
    photons = PHOTONS[severity]
    return random.poisson(photons * image) / photons


def impulse_noise(
    image: np.ndarray, severity: int, random: np.random.Generator, scale: float
) -> np.ndarray:
    """Set the share IMPULSES of all values to 0 or 1 with equal probability."""
    replaced = random.random(image.shape) < IMPULSES[severity]
    extremes = random.integers(0, 2, image.shape)
    return np.where(replaced, extremes, image)
