"""Blur by optics, glass, motion and zoom. Edges are mirrored."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, signal

RADII = (3, 4, 6, 8, 10)
"""Radius of the disk with which an image is blurred."""
GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
"""Standard deviation of the blur before and after, largest step of a pixel, number of steps."""
MOTION = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
"""Half of the length of the path, standard deviation of the weights along it."""
ZOOMS = (1.1, 1.15, 1.2, 1.25, 1.3)
"""Largest zoom."""
_ZOOM_STEPS = 11


def defocus_blur(
    image: np.ndarray, severity: int, random: np.random.Generator, scale: float
) -> np.ndarray:
    """Convolve with a disk of the radius RADII."""
    return convolve(image, disk(RADII[severity] * scale))


def glass_blur(
    image: np.ndarray, severity: int, random: np.random.Generator, scale: float
) -> np.ndarray:
    """Blur, take each pixel from a random place nearby, and blur again.

    The paper swaps pixels with neighbors step by step; here each pixel takes the value at the end
    of a random walk of as many uniform steps.
    """
    sigma, longest, steps = GLASS[severity]
    most = max(constants[2] for constants in GLASS)
    walks = random.uniform(-1, 1, (most, 2, *image.shape[:2]))[:steps].sum(axis=0)
    moved = move(gaussian(image, sigma * scale), longest * scale * walks)
    return gaussian(moved, sigma * scale)


def motion_blur(
    image: np.ndarray, severity: int, random: np.random.Generator, scale: float
) -> np.ndarray:
    """Convolve with a line at a random angle within 45° of the horizontal, weighted by a normal
    curve. Unlike in the paper, the line is centered on the pixel, so that objects stay in place.
    """
    radius, sigma = MOTION[severity]
    return convolve(image, line(radius * scale, sigma * scale, random.uniform(-45, 45)))


def zoom_blur(
    image: np.ndarray, severity: int, random: np.random.Generator, scale: float
) -> np.ndarray:
    """Average the image and 10 enlargements about its center, up to ZOOMS."""
    size = np.array(image.shape[:2])
    middle = ((size - 1) / 2)[:, np.newaxis, np.newaxis]
    offsets = np.indices(image.shape[:2]) - middle
    factors = np.linspace(1, ZOOMS[severity], _ZOOM_STEPS)
    return np.mean([move(image, offsets / factor - offsets) for factor in factors], axis=0)


def gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur each channel of an image [H, W, C] with a normal curve."""
    return ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="reflect")


def move(image: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Take each pixel of an image [H, W, C] from the place at its offset, float [2, H, W] in
    pixels, bilinearly.
    """
    places = np.indices(image.shape[:2]) + offsets
    moved = [
        ndimage.map_coordinates(image[..., channel], places, order=1, mode="reflect")
        for channel in range(image.shape[-1])
    ]
    return np.stack(moved, axis=-1)


def convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve each channel of an image [H, W, C] with a kernel of odd sides."""
    high, wide = (length // 2 for length in kernel.shape)
    padded = np.pad(image, ((high, high), (wide, wide), (0, 0)), mode="symmetric")
    return signal.fftconvolve(padded, kernel[..., np.newaxis], mode="valid", axes=(0, 1))


def disk(radius: float) -> np.ndarray:
    """Return a disk as a kernel of sum 1."""
    ticks = _ticks(radius)
    y, x = np.meshgrid(ticks, ticks, indexing="ij")
    inside = np.hypot(y, x) <= radius * (1 + 1e-9)
    return _kernel(y[inside], x[inside], np.ones(inside.sum()))


def line(radius: float, sigma: float, degrees: float) -> np.ndarray:
    """Return a line through a pixel as a kernel of sum 1, weighted along it by a normal curve."""
    along, angle = _ticks(radius), np.deg2rad(degrees)
    weights = np.exp(-np.square(along / sigma) / 2)
    return _kernel(along * np.sin(angle), along * np.cos(angle), weights)


def _ticks(radius: float) -> np.ndarray:
    """Return equally spaced numbers from −radius to radius, at least 17 and two per pixel."""
    half = max(int(np.ceil(2 * radius)), 8)
    return np.linspace(-radius, radius, 2 * half + 1)


def _kernel(y: np.ndarray, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return points [n] with weights as a kernel of sum 1. The weight of a point between pixels is
    divided among its four neighbors, as in bilinear interpolation, so small shapes blur a little.
    """
    reach = int(np.ceil(max(np.abs(y).max(), np.abs(x).max())))
    pixels = np.arange(-reach, reach + 1)
    rows, columns = (np.maximum(1 - np.abs(axis[:, np.newaxis] - pixels), 0) for axis in (y, x))
    kernel = (rows * weights[:, np.newaxis]).T @ columns
    return kernel / kernel.sum()
