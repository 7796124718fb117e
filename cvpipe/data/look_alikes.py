"""Near-duplicates among many images: re-encoded, resized, brightened or slightly cropped copies.

Each image is reduced to a gray thumbnail. Its candidates are its nearest neighbors in a k-d tree of
the lowest frequencies of the cosine transform. The image is then aligned and compared with each of
them in detail. Time and memory grow about linearly with the number of images.

Dimensions: N images, P pairs, S = SIDE.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

SIDE = 32
"""Side of a thumbnail in pixels."""
NEIGHBORS = 6
"""Number of candidates of each image."""
MOST_DIFFERENT = 0.2
"""Largest difference of near-duplicates. Photos of different objects differ by 0.6 or more."""
MOST_RELATIVE = 0.15
"""Largest difference of near-duplicates relative to the median difference between an image and its
candidates. This limit matters in data whose images all resemble each other, such as silhouettes of
trousers.
"""
FREQUENCIES = 16
LEAST_CONTRAST = 1.0
"""Standard deviation of gray values in 0…255 below which an image is blank."""
STEPS = 5
BLOCK = 2048
BORDER = 2


class Pairs(NamedTuple):
    """Near-duplicates, in order of increasing difference."""

    first: np.ndarray
    """int64 [P], indices of images; each is less than that in `second`."""
    second: np.ndarray
    """int64 [P]."""
    difference: np.ndarray
    """float64 [P]: 1 − the correlation of the aligned thumbnails, in [0, MOST_DIFFERENT]."""


def near_duplicates(
    thumbnails: np.ndarray,
    chosen: np.ndarray,
    watch: Callable[[int, int], None] = lambda done, pairs: None,
) -> Pairs:
    """Return the pairs of near-duplicates.

    Args:
        thumbnails: uint8 [N, S, S], gray; may be memory-mapped.
        chosen: int64 [n], ascending: the images to compare, without identical copies. Blank images
            are skipped.
        watch: called repeatedly with the number of compared pairs and the number of all pairs.
    """
    textured = chosen[_contrasts(thumbnails, chosen) >= LEAST_CONTRAST]
    candidates = _candidates(_spectra(thumbnails, textured))
    if not len(candidates):
        none = np.zeros(0, np.int64)
        return Pairs(none, none, np.zeros(0))
    pairs = textured[candidates]
    difference = np.zeros(len(pairs))
    for start in range(0, len(pairs), BLOCK):
        block = pairs[start : start + BLOCK]
        difference[start : start + BLOCK] = _differences(
            thumbnails[block[:, 0]], thumbnails[block[:, 1]]
        )
        watch(start + len(block), len(pairs))
    usual = _medians(pairs, difference, len(thumbnails))
    is_near = (difference <= MOST_DIFFERENT) & (
        difference <= MOST_RELATIVE * usual[pairs].min(axis=1)
    )
    near = np.flatnonzero(is_near)
    near = near[np.argsort(difference[near], kind="stable")]
    return Pairs(pairs[near, 0], pairs[near, 1], difference[near])


def _contrasts(thumbnails: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    parts = (chosen[start : start + BLOCK] for start in range(0, len(chosen), BLOCK))
    each = (thumbnails[part].std(axis=(1, 2)) for part in parts)
    return np.concatenate([np.zeros(0), *each])


def _candidates(spectra: np.ndarray) -> np.ndarray:
    """Return pairs of images whose spectra are neighbors, int64 [P, 2], each once."""
    neighbors = min(NEIGHBORS, len(spectra) - 1)
    if neighbors < 1:
        return np.zeros((0, 2), np.int64)
    near = cKDTree(spectra).query(spectra, k=neighbors + 1, workers=-1)[1]
    image = np.repeat(np.arange(len(spectra)), neighbors + 1)
    pairs = np.sort(np.stack([image, near.reshape(-1)], axis=1), axis=1)
    # The nearest neighbor of an image is itself, or an image with the same spectrum.
    unique: np.ndarray = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    return unique


def _spectra(thumbnails: np.ndarray, textured: np.ndarray) -> np.ndarray:
    """Return the lowest frequencies of normalized thumbnails, float32 [n, FREQUENCIES]."""
    place, wave = np.arange(SIDE), np.arange(SIDE)[:, np.newaxis]
    cosines = np.cos(np.pi * (2 * place + 1) * wave / (2 * SIDE))
    order = sorted((y + x, y, x) for y in range(8) for x in range(8) if y + x)[:FREQUENCIES]
    rows, columns = [y for _, y, _ in order], [x for *_, x in order]
    spectra = np.zeros((len(textured), FREQUENCIES), np.float32)
    for start in range(0, len(textured), BLOCK):
        block = _normalized(thumbnails[textured[start : start + BLOCK]].astype(np.float64))
        spectrum = cosines[:8] @ block @ cosines[:8].T / SIDE**2
        spectra[start : start + BLOCK] = spectrum[:, rows, columns]
    return spectra


def _medians(pairs: np.ndarray, difference: np.ndarray, images: int) -> np.ndarray:
    """Return the median difference of each image to its candidates, float64 [images].

    It is infinity for images with fewer than three candidates, because so few aren't
    representative.
    """
    image, values = pairs.T.reshape(-1), np.tile(difference, 2)
    order = np.lexsort((values, image))
    image, values = image[order], values[order]
    first = np.searchsorted(image, np.arange(images))
    count = np.bincount(image, minlength=images)
    middle = np.minimum(first + count // 2, len(values) - 1)
    return np.where(count >= 3, values[middle], np.inf)


def _differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return 1 − the correlation of pairs of thumbnails, uint8 [P, S, S], after the first is moved
    and scaled to fit the second (Lucas and Kanade 1981): float64 [P].

    The lower of two correlations is used: that of the thumbnails and that of their details.
    """
    one, other = (_normalized(each.astype(np.float64)) for each in (first, second))
    moves = np.zeros((len(one), 4))
    for _ in range(STEPS):
        moves = np.clip(moves + _better(_moved(one, moves), other), -0.25, 0.25)
    one, other = _softened(_moved(one, moves)), _softened(other)
    return 1 - np.minimum(_correlation(one, other), _correlation(_details(one), _details(other)))


def _better(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return a change of the moves, float64 [P, 4], that aligns `one` better with `other`."""
    grid = np.linspace(-1, 1, SIDE)
    by_row, by_column = (each * (SIDE - 1) / 2 for each in np.gradient(one, axis=(1, 2)))
    slopes = np.stack([by_row, by_row * grid[:, np.newaxis], by_column, by_column * grid], axis=-1)
    slopes = _inner(slopes).reshape(len(one), -1, 4)
    left = _inner(other - one).reshape(len(one), -1, 1)
    across = slopes.transpose(0, 2, 1)
    # Adding a small multiple of the identity keeps images without edges from moving.
    square = across @ slopes + 1e-3 * SIDE**2 * np.eye(4)
    change: np.ndarray = np.linalg.solve(square, across @ left)[..., 0]
    return change


def _moved(images: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Move and scale images [P, S, S] by rows and columns, bilinearly, and normalize them again.

    Args:
        moves: float64 [P, 4], shift and growth of the sampled rows and columns, in half sides.
    """
    grid = np.linspace(-1, 1, SIDE)
    weights = []
    for shift, growth in (moves[:, :2].T, moves[:, 2:].T):
        place = (grid * (1 + growth[:, np.newaxis]) + shift[:, np.newaxis] + 1) / 2 * (SIDE - 1)
        place = np.clip(place, 0, SIDE - 1)
        # Bilinear weights of all pixels: 1 at the place, 0 at a distance of a pixel or more.
        weights.append(np.maximum(1 - np.abs(place[..., np.newaxis] - np.arange(SIDE)), 0))
    rows, columns = weights
    return _normalized(rows @ images @ columns.transpose(0, 2, 1))


def _normalized(images: np.ndarray) -> np.ndarray:
    images = images - images.mean(axis=(1, 2), keepdims=True)
    return images / (images.std(axis=(1, 2), keepdims=True) + 1e-6)


def _softened(images: np.ndarray) -> np.ndarray:
    """Blur with the kernel (1, 2, 1), so that it matters less if one image is blurrier than the
    other, for example because it was resized more often.
    """
    around = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = around[:, :-2] + 2 * around[:, 1:-1] + around[:, 2:]
    blurred: np.ndarray = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16
    return blurred


def _details(images: np.ndarray) -> np.ndarray:
    """Return the differences of pixels from the means of the 5 × 5 pixels around them."""
    around = np.pad(images, ((0, 0), (2, 2), (2, 2)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(around, (5, 5), axis=(1, 2))
    details: np.ndarray = images - windows.mean(axis=(3, 4))
    return details


def _inner(images: np.ndarray) -> np.ndarray:
    """Cut off the border, which isn't visible in both images after a move."""
    return images[:, BORDER:-BORDER, BORDER:-BORDER]


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = (_inner(each) for each in (one, other))
    one, other = (each - each.mean(axis=(1, 2), keepdims=True) for each in (one, other))
    spread = np.sqrt((one**2).sum(axis=(1, 2)) * (other**2).sum(axis=(1, 2)))
    correlation: np.ndarray = (one * other).sum(axis=(1, 2)) / np.maximum(spread, 1e-9)
    return correlation
