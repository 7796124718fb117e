"""Guards overlaps of boxes and their gradients, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.geometry import boxes as geometry


def some_boxes(seed: int, *shape: int) -> np.ndarray:
    low, high = np.sort(np.random.default_rng(seed).random((2, *shape, 2), np.float32), axis=0)
    return np.concatenate([low, high], -1)


def by_hand(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Return the four overlaps of two boxes in float64, by the papers' equations."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared
    around = np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])
    iou = shared / union
    distance = np.sum(((a[:2] + a[2:]) / 2 - (b[:2] + b[2:]) / 2) ** 2) / np.sum(around**2)
    angles = [math.atan((box[3] - box[1]) / (box[2] - box[0])) for box in (a, b)]
    v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    return {
        "giou": iou - (np.prod(around) - union) / np.prod(around),
        "diou": iou - distance,
        "ciou": iou - distance - v / (1 - iou + v) * v,
        "iou": iou,
    }


def test_pairwise_iou_equals_its_definition_for_every_pair() -> None:
    a, b = some_boxes(0, 2, 5), some_boxes(1, 2, 7)
    given = geometry.iou(a, b)
    expected = [[[by_hand(p, q)["iou"] for q in b[n]] for p in a[n]] for n in range(2)]
    np.testing.assert_allclose(given, expected, atol=1e-6)
    np.testing.assert_allclose(
        geometry.iou(a, b[0]), tf.stack([given[0], geometry.iou(a[1], b[0])]), atol=1e-6
    )


@pytest.mark.parametrize("name", ["giou", "diou", "ciou"])
def test_overlaps_of_corresponding_boxes_equal_the_equations_of_the_papers(name: str) -> None:
    a, b = some_boxes(2, 40), some_boxes(3, 40)
    given = getattr(geometry, name)(a, b)
    np.testing.assert_allclose(given, [by_hand(p, q)[name] for p, q in zip(a, b)], atol=1e-5)
    np.testing.assert_allclose(getattr(geometry, name)(a, a), 1, atol=1e-6)


def test_boxes_that_only_touch_or_are_empty_dont_overlap() -> None:
    a = np.float32([[0, 0, 0.5, 0.5], [0.2, 0.2, 0.2, 0.2], [0.8, 0.8, 0.1, 0.1]])
    b = np.float32([[0.5, 0, 1, 0.5], [0.2, 0.2, 0.2, 0.2]])
    assert not geometry.iou(a, b).numpy().any()
    assert geometry.area(a).numpy().tolist() == [0.25, 0, 0]


@pytest.mark.parametrize("name", ["giou", "diou", "ciou"])
def test_gradients_are_finite_for_degenerate_boxes(name: str) -> None:
    point, line, far, inverted = (
        [0.5] * 4,
        [0.2, 0.1, 0.2, 0.9],
        [0.9, 0.9, 1, 1],
        [0.7, 0.7, 0.3, 0.3],
    )
    whole = [0.0, 0.0, 1.0, 1.0]
    a = tf.constant([p for p in (point, line, far, inverted, whole) for _ in range(5)])
    b = tf.constant([point, line, far, inverted, whole] * 5)
    with tf.GradientTape() as tape:
        tape.watch([a, b])
        overlap = getattr(geometry, name)(a, b)
    assert np.isfinite(overlap).all()
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(overlap, [a, b]))


def test_the_weight_alpha_of_ciou_has_no_gradient() -> None:
    a, b = tf.constant([0.1, 0.1, 0.5, 0.9]), tf.constant([0.2, 0.2, 0.8, 0.6])
    with tf.GradientTape() as tape:
        tape.watch(a)
        given = geometry.ciou(a, b)
    parts = by_hand(a.numpy(), b.numpy())
    v = 4 / math.pi**2 * (math.atan(2) - math.atan(2 / 3)) ** 2
    alpha = v / (1 - parts["iou"] + v)

    def with_constant_alpha(values: np.ndarray) -> float:
        moved = by_hand(values, b.numpy())
        angle = math.atan((values[3] - values[1]) / (values[2] - values[0]))
        return moved["diou"] - alpha * 4 / math.pi**2 * (angle - math.atan(2 / 3)) ** 2

    steps = 1e-5 * np.eye(4)
    expected = [
        (with_constant_alpha(a.numpy() + step) - with_constant_alpha(a.numpy() - step)) / 2e-5
        for step in steps
    ]
    np.testing.assert_allclose(tape.gradient(given, a), expected, atol=1e-3)


def test_centers_and_corners_are_converted_into_each_other() -> None:
    corners = some_boxes(4, 3, 6)
    centers = geometry.to_centers(corners)
    np.testing.assert_allclose(geometry.to_corners(centers), corners, atol=1e-6)
    np.testing.assert_allclose(
        geometry.to_centers([0.0, 0.2, 0.5, 1.0]), [0.25, 0.6, 0.5, 0.8], atol=1e-7
    )


def test_clipping_keeps_the_part_within_the_image() -> None:
    clipped = geometry.clip([[-0.5, 0.25, 0.5, 1.5], [1.5, 1.5, 2.0, 2.0]])
    assert clipped.numpy().tolist() == [[0, 0.25, 0.5, 1], [1, 1, 1, 1]]
    assert geometry.clip([[-5.0, 3.0, 90.0, 70.0]], (50, 60)).numpy().tolist() == [[0, 3, 50, 60]]
