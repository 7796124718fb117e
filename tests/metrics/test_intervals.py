"""Guards intervals and the paired test, against formulas and an enumeration of all signs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from cvpipe.metrics.intervals import FLIPS, bootstrap, interval, paired_test


def test_the_interval_of_a_share_is_that_of_the_normal_distribution() -> None:
    scores = np.zeros((1, 400))
    scores[0, :100] = 1
    low, high = interval(bootstrap(scores)[0])
    half = 1.96 * math.sqrt(0.25 * 0.75 / 400)
    assert (low, high) == pytest.approx((0.25 - half, 0.25 + half), abs=0.005)


def test_models_are_resampled_on_the_same_images() -> None:
    scores = np.random.default_rng(0).random((1, 50))
    means = bootstrap(np.concatenate([scores, scores + 0.1]))
    np.testing.assert_allclose(means[1] - means[0], 0.1)
    assert means[0].std() > 0.01


def test_the_paired_test_counts_all_choices_of_signs() -> None:
    first = np.array([0.2, 0.5, 0.9, 0.1, 0.4, 0.7, 0.3, 0.6])
    second = first + [0.1, 0.2, -0.05, 0.3, 0.0, 0.15, 0.1, 0.2]
    differences = second - first
    sums = [
        abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=len(first))
    ]
    exact = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-9)
    assert paired_test(first, second) == pytest.approx(exact, abs=0.006)
    assert paired_test(first, first) == 1
    certain = paired_test(np.zeros(100), np.ones(100))
    assert certain == 1 / (FLIPS + 1)
