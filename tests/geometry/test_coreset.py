"""Guards coresets, against a greedy choice in NumPy, with all or only some eligible points."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.geometry.coreset import greedy_coreset


def brute_force(points: np.ndarray, count: int) -> list[int]:
    """Return the positions of a greedy coreset that begins with the first point."""
    chosen = [0]
    while len(chosen) < count:
        apart = np.linalg.norm(points[:, np.newaxis] - points[chosen], axis=-1)
        chosen.append(int(apart.min(1).argmax()))
    return chosen


@pytest.mark.parametrize("far", [0.0, 1e3])
def test_the_chosen_points_are_those_of_brute_force(far: float) -> None:
    points = np.random.default_rng(0).normal(size=(80, 5)) + far
    chosen, valid = greedy_coreset(tf.constant(points, tf.float32), tf.ones(80, tf.bool), 25)
    assert chosen.numpy().tolist() == brute_force(points, 25) and valid.numpy().all()


def test_points_that_are_left_out_are_neither_chosen_nor_covered() -> None:
    points = np.random.default_rng(1).normal(size=(60, 3))
    eligible = np.arange(60) % 3 == 1
    chosen, valid = greedy_coreset(tf.constant(points, tf.float32), tf.constant(eligible), 10)
    places = np.flatnonzero(eligible)
    assert chosen.numpy().tolist() == places[brute_force(points[places], 10)].tolist()
    assert valid.numpy().all()


def test_no_point_is_farther_than_twice_the_best_radius() -> None:
    points = np.random.default_rng(2).normal(size=(12, 2))
    chosen, _ = greedy_coreset(tf.constant(points, tf.float32), tf.ones(12, tf.bool), 2)

    def radius(centers: np.ndarray) -> float:
        apart = np.linalg.norm(points[:, np.newaxis] - points[centers], axis=-1)
        return float(apart.min(1).max())

    best = min(radius(np.array([a, b])) for a in range(12) for b in range(a))
    assert best <= radius(chosen.numpy()) <= 2 * best


def test_equal_points_are_chosen_once() -> None:
    points = np.random.default_rng(3).normal(size=(4, 3)) * 1e2
    many = tf.constant(np.repeat(points, 5, axis=0), tf.float32)
    chosen, valid = greedy_coreset(many, tf.ones(20, tf.bool), 9)
    assert valid.numpy().tolist() == [True] * 4 + [False] * 5
    assert sorted(chosen.numpy()[:4] // 5) == [0, 1, 2, 3]


def test_without_eligible_points_nothing_is_valid() -> None:
    chosen, valid = greedy_coreset(tf.ones([6, 2]), tf.zeros(6, tf.bool), 3)
    assert chosen.shape == (3,) and not valid.numpy().any()
