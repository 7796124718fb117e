"""Statistics of the training set: means, standard deviations, principal components.

They are computed once, in float64.

Dimensions: N images, H, W, C of the network's input, D = H·W·C values of an image.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cvpipe.config.prepare import Prepare

# Statistics of a larger training set use this many images, evenly spaced.
MOST_IMAGES = 20_000
# A channel with a smaller standard deviation counts as constant and isn't scaled.
LEAST_DEVIATION = 1e-6


def evenly_spaced(examples: int, most: int = MOST_IMAGES) -> np.ndarray:
    """Return at most `most` of the positions 0 … examples − 1, evenly spaced, int64."""
    return np.unique(np.linspace(0, examples - 1, min(examples, most)).round().astype(np.int64))


def normalization(batches: Iterable[np.ndarray], config: Prepare) -> dict[str, np.ndarray]:
    """Compute the weights of `models.normalize.Normalize` from the training set.

    Args:
        batches: images, float32 [N, H, W, C] in [0, 1] each; at least one image in all.
        config: `normalize` selects the statistics: channels, image, pca or zca.

    Returns:
        channels: "mean" and "scale" (1 / standard deviation), float32 [C].
        image: "mean", float32 [H, W, C].
        pca, zca: "mean" and "matrix", float32 [D, D]. x·matrix has uncorrelated components
            of variance about 1. For pca, they are ordered by decreasing variance before scaling.
            zca is the whitening that changes x least (Bell and Sejnowski 1997, Krizhevsky 2009).
    """
    shape = (*config.size, config.channels)
    if config.normalize == "channels":
        mean, covariance = _moments(batch.reshape(-1, config.channels) for batch in batches)
        return {"mean": _single(mean), "scale": _single(1 / _deviations(covariance))}
    if config.normalize == "image":
        total, count = np.zeros(shape), 0
        for batch in batches:
            total, count = total + batch.sum(0, dtype=np.float64), count + len(batch)
        return {"mean": _single(total / count)}
    mean, covariance = _moments(batch.reshape(len(batch), -1) for batch in batches)
    return {"mean": _single(mean.reshape(shape)), "matrix": _single(_whitening(covariance, config))}


def color_components(batches: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the principal components of the training set's colors (Krizhevsky et al. 2012,
    section 4.1).

    Args:
        batches: images, float32 [N, H, W, C] in [0, 1] each.

    Returns:
        The eigenvalues, float32 [C], of the covariance of the channels over all pixels, and its
        eigenvectors, columns of float32 [C, C].
    """
    _, covariance = _moments(batch.reshape(-1, batch.shape[-1]) for batch in batches)
    values, vectors = np.linalg.eigh(covariance)
    return _single(values), _single(vectors)


def _moments(batches: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean [D] and covariance [D, D] of rows, [N, D] each."""
    count, total, products = 0, np.zeros(1), np.zeros((1, 1))
    for rows in batches:
        exact = rows.astype(np.float64)
        count, total, products = count + len(rows), total + exact.sum(0), products + exact.T @ exact
    mean = total / count
    return mean, products / count - np.outer(mean, mean)


def _deviations(covariance: np.ndarray) -> np.ndarray:
    deviations = np.sqrt(np.maximum(covariance.diagonal(), 0))
    return np.where(deviations > LEAST_DEVIATION, deviations, 1.0)


def _whitening(covariance: np.ndarray, config: Prepare) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    to_components = vectors / np.sqrt(values + config.whitening_epsilon)
    return to_components if config.normalize == "pca" else to_components @ vectors.T


def _single(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)
