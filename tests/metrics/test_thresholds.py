"""Guards the threshold with the best F1, against a search over all thresholds."""

from __future__ import annotations

import math

import numpy as np

from cvpipe.metrics.thresholds import best_threshold


def f1_at(threshold: float, scores: np.ndarray, is_right: np.ndarray, objects: int) -> float:
    accepted = scores >= threshold
    return 2 * int(is_right[accepted].sum()) / (int(accepted.sum()) + objects)


def test_no_threshold_has_a_higher_f1() -> None:
    random = np.random.default_rng(0)
    for count in range(1, 40):
        # Few distinct values, so that some scores are equal.
        scores = random.integers(1, 12, count) / 12
        is_right = random.random(count) < scores
        objects = int(is_right.sum()) + int(random.integers(0, 5))
        if not is_right.any():
            continue
        found = best_threshold(scores, is_right, objects)
        tried = {limit: f1_at(limit, scores, is_right, objects) for limit in np.unique(scores)}
        best = max(limit for limit, f1 in tried.items() if f1 == max(tried.values()))
        assert found.f1 == max(tried.values()) == f1_at(found.threshold, scores, is_right, objects)
        assert found.threshold < best and not ((scores > found.threshold) & (scores < best)).any()
        accepted = scores >= found.threshold
        assert found.precision == is_right[accepted].mean()
        assert found.recall == is_right[accepted].sum() / objects


def test_without_objects_or_right_answers_there_is_no_threshold() -> None:
    scores = np.array([0.9, 0.5])
    assert math.isnan(best_threshold(scores, np.array([False, False]), 0).f1)
    wrong = best_threshold(scores, np.array([False, False]), 3)
    assert math.isnan(wrong.threshold) and wrong.f1 == 0
    assert best_threshold(np.zeros(0), np.zeros(0, bool), 3).recall == 0
