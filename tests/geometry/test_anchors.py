"""Guards anchors, which k-means must find among sizes in known groups."""

from __future__ import annotations

import numpy as np
import pytest

from cvpipe.errors import DataError
from cvpipe.geometry.anchors import find_anchors, rounded_anchors, size_iou

GROUPS = np.array([[0.05, 0.1], [0.2, 0.2], [0.3, 0.8]])


def sizes(seed: int = 0, each: int = 60) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.concatenate([group * random.uniform(0.9, 1.1, (each, 2)) for group in GROUPS])


def test_groups_of_sizes_are_found_sorted_by_area() -> None:
    anchors, fit = find_anchors(sizes(), 3)
    assert anchors.dtype == np.float32
    np.testing.assert_allclose(anchors, GROUPS, rtol=0.03)
    assert fit == pytest.approx(size_iou(sizes(), anchors).max(1).mean(), abs=1e-6)


def test_the_same_seed_gives_the_same_anchors_and_more_restarts_are_never_worse() -> None:
    first, again = find_anchors(sizes(), 5, seed=3), find_anchors(sizes(), 5, seed=3)
    np.testing.assert_array_equal(first[0], again[0])
    assert find_anchors(sizes(), 5, seed=3, restarts=1)[1] <= first[1]


def test_more_anchors_fit_better() -> None:
    fits = [find_anchors(sizes(), k)[1] for k in (1, 2, 3, 6)]
    assert fits == sorted(fits)
    assert find_anchors(np.unique(sizes()[:4], axis=0), 4)[1] == pytest.approx(1)


def test_rounded_anchors_keep_significant_digits() -> None:
    anchors = np.array([[0.00012345, 0.1], [0.98765, 1e-5]], np.float32)
    assert rounded_anchors(anchors, 3) == [[0.000123, 0.1], [0.988, 1e-5]]


def test_iou_of_sizes_equals_that_of_concentric_boxes() -> None:
    np.testing.assert_allclose(
        size_iou([[0.2, 0.4]], [[0.2, 0.4], [0.4, 0.2], [0.1, 0.1]]), [[1, 1 / 3, 0.125]]
    )


def test_too_few_different_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="3 anchors.*only 2 different sizes"):
        find_anchors([[0.1, 0.1], [0.1, 0.1], [0.2, 0.3], [0, 0.5]], 3)
