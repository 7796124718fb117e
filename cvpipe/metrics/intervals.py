"""Confidence intervals and significance tests, by resampling, of scores that are means over images.

Dimensions: M models, N images.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

RESAMPLES, FLIPS = 2000, 9999
LEVEL = 0.95
VALUES = 2_000_000
"""Number of random numbers that are drawn at once, which bounds memory."""


def bootstrap(scores: np.ndarray) -> np.ndarray:
    """Return bootstrap means of the scores (Efron 1979), float64 [M, RESAMPLES].

    All models share the same random choices of images, which depend only on N.

    Args:
        scores: float64 [M, N], at least one image.
    """
    random, count = np.random.default_rng(0), scores.shape[1]
    means = [
        scores[:, random.integers(0, count, (size, count))].mean(axis=2)
        for size in _blocks(RESAMPLES, count * len(scores))
    ]
    return np.concatenate(means, axis=1)


def interval(means: np.ndarray) -> tuple[float, float]:
    """Return the two percentiles between which the share LEVEL of the resampled means lies."""
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def paired_test(first: np.ndarray, second: np.ndarray) -> float:
    """Return the p-value of a two-sided permutation test of two models' scores on the same images
    (Fisher 1935).

    It is the probability of a mean difference at least as large as the observed one if the sign of
    each image's difference is random, estimated from FLIPS random choices of signs.

    Args:
        first, second: float64 [N].
    """
    random, differences = np.random.default_rng(0), second - first
    # Images without a difference don't change the sums.
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    observed = abs(differences.sum()) - 1e-9
    larger = 0
    for size in _blocks(FLIPS, len(differences)):
        signs = 2.0 * random.integers(0, 2, (size, len(differences))) - 1
        larger += int((np.abs(signs @ differences) >= observed).sum())
    # The observed signs count as one of the choices.
    return (larger + 1) / (FLIPS + 1)


def _blocks(total: int, width: int) -> Iterator[int]:
    size = max(VALUES // max(width, 1), 1)
    for start in range(0, total, size):
        yield min(size, total - start)
