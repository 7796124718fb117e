"""Snow, frost and fog, drawn by procedures."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cvpipe.explain.corruption.blur import convolve, line

SNOW = ((0.06, 0.8), (0.09, 0.75), (0.12, 0.7), (0.14, 0.65), (0.16, 0.55))
"""Share of pixels covered by flakes, and weight w of the image; the bleached image has 1 − w."""
FROST = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.8), (0.6, 0.9))
"""Weights of the image and of the frost. The paper weights its photos of frost by 0.7 and 0.75 at
the last two severities.
"""
FOG = ((1.5, 2), (2, 1.9), (2.5, 1.8), (3, 1.7), (3.5, 1.6))
"""Strength of the fog, and the factor by which details of half the size are weaker. The paper has
1.5 to 3 and 2 to 1.4; with the paper's values, the last two severities would hardly differ here.
"""
FLAKE, FALL = 3, (12, 8)
"""Side of a flake; half of the length of the line along which it is blurred, and standard deviation
of the blur.
"""
ICE = (0.75, 0.9, 1.0)
"""Color of frost."""
_FROST_DECAY = 1.6


def snow(image: np.ndarray, severity: int, random: np.random.Generator, scale: float) -> np.ndarray:
    """Bleach the image, and add flakes blurred by their fall. The formula is the paper's. Flakes
    are squares of FLAKE pixels that together cover a share of the image; the paper thresholds noise
    instead.
    """
    share, kept = SNOW[severity]
    side = max(round(FLAKE * scale), 1)
    cells = [-(-length // side) for length in image.shape[:2]]
    flakes = random.random(cells) < share
    layer = np.kron(flakes, np.ones([side, side]))[: image.shape[0], : image.shape[1], np.newaxis]
    angle = random.uniform(45, 135)
    fallen = convolve(layer, line(FALL[0] * scale, FALL[1] * scale, angle))
    return kept * image + (1 - kept) * np.maximum(image, 1.5 * _gray(image) + 0.5) + fallen


def frost(
    image: np.ndarray, severity: int, random: np.random.Generator, scale: float
) -> np.ndarray:
    """Add needles of ice: the ridges of fractal noise, in the color ICE. The paper uses photos of
    frosted windows.
    """
    kept, added = FROST[severity]
    noise = plasma(image.shape[:2], _FROST_DECAY, random)
    ridges = 1 - np.abs(2 * noise - 1)
    color = np.array(ICE if image.shape[-1] == 3 else [np.mean(ICE)])
    return kept * image + added * ridges[..., np.newaxis] * color


def fog(image: np.ndarray, severity: int, random: np.random.Generator, scale: float) -> np.ndarray:
    """Add fractal noise, and scale back to the range of the image. The formula is the paper's, with
    a different fractal.
    """
    strength, decay = FOG[severity]
    brightest = image.max()
    thick = image + strength * plasma(image.shape[:2], decay, random)[..., np.newaxis]
    return thick * brightest / (brightest + strength)


def plasma(shape: tuple[int, ...], decay: float, random: np.random.Generator) -> np.ndarray:
    """Return fractal noise in 0…1, [H, W]: a sum of random grids of 2, 4, 8 … cells over the
    longer side, enlarged bilinearly. Each grid is weaker than the one before by the factor `decay`.
    """
    longest, total = max(shape), np.zeros(shape)
    cells, weight = 2, 1.0
    while True:
        grid = random.random((cells + 1, cells + 1))
        places = np.indices(shape) * (cells / max(longest - 1, 1))
        total += weight * ndimage.map_coordinates(grid, places, order=1, mode="nearest")
        if cells >= longest:
            break
        cells, weight = 2 * cells, weight / decay
    spread = np.ptp(total)
    return (total - total.min()) / (spread or 1.0)


def _gray(image: np.ndarray) -> np.ndarray:
    """Return the brightness of an image, [H, W, 1] (ITU-R BT.601)."""
    if image.shape[-1] == 1:
        return image
    return image @ np.array([[0.299], [0.587], [0.114]])
