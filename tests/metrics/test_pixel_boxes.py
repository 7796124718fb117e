"""Guards IoUs that equal a threshold exactly: every metric counts them as reaching it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from cvpipe.metrics.detection import DetectionMetrics
from cvpipe.metrics.localization import LocalizationMetrics
from cvpipe.metrics.pixel_boxes import overlaps, rounded

# Coordinates are whole numbers, halves, tenths or hundredths of pixels, as in annotations.
UNITS = [1, 2, 10, 100]


def halves(unit: int, count: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return image sizes (int [n, 2]), an object in each image, and a box that covers half of the
    object, in pixels, so that the IoU is exactly one half.
    """
    random = np.random.default_rng(unit)
    extents = random.integers(40, 1500, (count, 2))
    low = (random.uniform(0, 0.4, (count, 2)) * extents * unit).astype(int)
    size = 2 * (random.uniform(0.05, 0.25, (count, 2)) * extents * unit).astype(int) + 2
    objects = np.concatenate([low, low + size], 1)
    boxes = objects.copy()
    axis = random.integers(0, 2, count)
    boxes[np.arange(count), 2 + axis] -= size[np.arange(count), axis] // 2
    return extents, objects / unit, boxes / unit


def smaller(boxes: np.ndarray, by: float = 0.01) -> np.ndarray:
    """Return the same boxes, lower and narrower by a hundredth of a pixel."""
    return boxes - [0, 0, by, by]


def detector(extents: np.ndarray, objects: np.ndarray, boxes: np.ndarray) -> DetectionMetrics:
    """Score one answer per image, in float32 as networks return it."""
    metrics, count = DetectionMetrics(("a",)), len(objects)
    metrics.update(
        {
            "boxes": boxes[:, np.newaxis].astype(np.float32),
            "class_ids": np.zeros((count, 1), np.int32),
            "scores": np.full((count, 1), 0.9, np.float32),
            "count": np.ones(count, np.int32),
            "image_size": extents,
        },
        {
            "boxes": (objects / np.tile(extents, 2))[:, np.newaxis].astype(np.float32),
            "labels": np.zeros((count, 1), np.int32),
            "crowd": np.zeros((count, 1), bool),
        },
        np.ones(count),
    )
    return metrics


@pytest.mark.parametrize("unit", UNITS)
def test_an_iou_of_one_half_is_right_for_voc_and_for_the_kinds_of_error(unit: int) -> None:
    extents, objects, boxes = halves(unit)
    scores = detector(extents, objects, boxes).result()
    assert scores["voc_ap_area"] == scores["voc_ap_11"] == 1
    assert scores["errors"]["correct"] == len(objects)
    less = detector(extents, objects, smaller(boxes)).result()
    assert less["voc_ap_area"] == 0 and less["errors"]["location"] == len(objects)


@pytest.mark.parametrize("unit", UNITS)
def test_an_iou_of_one_half_is_a_right_box_for_localization(unit: int) -> None:
    extents, objects, boxes = halves(unit)
    for answered, expected in ((boxes, 1), (smaller(boxes), 0)):
        metrics = LocalizationMetrics(("a", "b"))
        metrics.update(
            {
                "probabilities": np.tile(np.float32([0.9, 0.1]), (len(objects), 1)),
                "box": answered.astype(np.float32),
                "image_size": extents,
            },
            {
                "label": np.zeros(len(objects), np.int32),
                "box": (objects / np.tile(extents, 2)).astype(np.float32),
            },
            np.ones(len(objects)),
        )
        assert metrics.result()["box_accuracy"] == expected


def test_overlaps_are_the_floats_nearest_to_the_exact_quotients() -> None:
    random = np.random.default_rng(0)
    low = random.integers(0, 40_000, (2, 300, 2))
    whole = np.concatenate([low, low + random.integers(0, 60_000, low.shape)], -1)
    found, inside = overlaps(*rounded(whole / 1000))
    for n, (a, b) in enumerate(zip(*whole.tolist())):
        shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(
            min(a[3], b[3]) - max(a[1], b[1]), 0
        )
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
        assert found[n] == float(Fraction(shared, sum(areas) - shared))
        assert inside[n] == float(Fraction(shared, areas[0]))


def test_boxes_without_area_overlap_nothing() -> None:
    empty, full = np.zeros((1, 4)), np.array([[0.0, 0.0, 2.0, 2.0]])
    assert overlaps(empty, empty) == (0, 0) and overlaps(full, empty) == (0, 0)
