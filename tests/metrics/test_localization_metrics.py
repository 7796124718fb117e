"""Guards localization scores, against ILSVRC's definition applied image by image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from cvpipe.metrics.localization import LocalizationMetrics

CLASSES = tuple("abcdefgh")
SIZES = np.array([[100, 200], [64, 48], [10, 10]])


def random_boxes(random: np.random.Generator, images: int) -> np.ndarray:
    """Return boxes of all sizes, float64 [images, 4] in fractions."""
    corners = np.sort(random.uniform(0, 1, (images, 2, 2)), axis=1)
    return corners.reshape(images, 4)


def batch(images: int = 400, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return predictions and targets of images of different sizes; about half are right."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(CLASSES), images)
    logits = random.normal(size=(images, len(CLASSES))) + 2 * np.eye(len(CLASSES))[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    truth = random_boxes(random, images)
    answered = np.clip(truth + random.normal(scale=0.08, size=truth.shape), 0, 1)
    sizes = SIZES[random.integers(0, len(SIZES), images)]
    predictions = {
        "probabilities": probabilities.astype(np.float32),
        "box": (answered * np.tile(sizes, 2)).astype(np.float32),
        "image_size": sizes,
    }
    return predictions, {"label": labels, "box": truth.astype(np.float32)}


def scores_of(
    predictions: dict[str, Any], targets: dict[str, Any], weight: np.ndarray, size: int = 1000
) -> dict[str, Any]:
    metrics = LocalizationMetrics(CLASSES)
    for begin in range(0, len(weight), size):
        part = slice(begin, begin + size)
        metrics.update(
            {name: value[part] for name, value in predictions.items()},
            {name: value[part] for name, value in targets.items()},
            weight[part],
        )
    return metrics.result()


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the IoU of two boxes by its definition."""
    high, wide = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(high, 0) * max(wide, 0)
    areas = [max(box[2] - box[0], 0) * max(box[3] - box[1], 0) for box in (a, b)]
    return float(shared / (sum(areas) - shared)) if sum(areas) > shared else 0.0


def ilsvrc_error(
    predictions: dict[str, Any], targets: dict[str, Any], guesses: int
) -> tuple[float, list[float]]:
    """Return the localization error with the `guesses` most probable classes, and the IoUs
    (Russakovsky et al. 2015, section 4.2: an image costs 0 if some guess has the right class and an
    IoU of at least 0.5).
    """
    costs, overlaps = [], []
    for n, label in enumerate(targets["label"]):
        extent = np.tile(predictions["image_size"][n], 2)
        # Metrics round boxes to thousandths of a pixel.
        boxes = (predictions["box"][n].astype(float), targets["box"][n] * extent)
        overlaps.append(overlap(*(np.round(box, 3) for box in boxes)))
        named = np.argsort(-predictions["probabilities"][n], kind="stable")[:guesses]
        costs.append(min(max(guess != label, overlaps[-1] < 0.5) for guess in named))
    return float(np.mean(costs)), overlaps


def test_scores_equal_ilsvrcs_definition() -> None:
    predictions, targets = batch()
    scores = scores_of(predictions, targets, np.ones(400))
    top1, overlaps = ilsvrc_error(predictions, targets, 1)
    top5, _ = ilsvrc_error(predictions, targets, 5)
    assert 0.2 < top5 < top1 < 0.8
    assert scores["localization_error"] == pytest.approx(top1)
    assert scores["localization_accuracy"] == pytest.approx(1 - top1)
    assert scores["top5_localization_error"] == pytest.approx(top5)
    assert scores["top5_localization_accuracy"] == pytest.approx(1 - top5)
    assert scores["mean_iou"] == pytest.approx(np.mean(overlaps), abs=1e-6)
    assert scores["box_accuracy"] == pytest.approx(np.mean(np.array(overlaps) >= 0.5))
    named = predictions["probabilities"].argmax(-1) == targets["label"]
    assert scores["accuracy"] == pytest.approx(named.mean())


def test_mistakes_and_right_answers_add_up_to_all_images() -> None:
    scores = scores_of(*batch(), np.ones(400))
    right = round(scores["localization_accuracy"] * 400)
    assert sum(scores["mistakes"].values()) + right == 400
    assert min(scores["mistakes"].values()) > 0


def test_scores_of_a_class_are_those_of_its_images() -> None:
    predictions, targets = batch()
    scores = scores_of(predictions, targets, np.ones(400))
    of_class = targets["label"] == 3
    alone = scores_of(predictions, targets, of_class.astype(float))
    found = scores["per_class"]["d"]
    assert found["localization_accuracy"] == pytest.approx(alone["localization_accuracy"])
    assert found["mean_iou"] == pytest.approx(alone["mean_iou"])
    assert found["images"] == alone["images"] == of_class.sum()


def test_batching_changes_no_localization_score() -> None:
    together, apart = (scores_of(*batch(), np.ones(400), size) for size in (400, 7))
    assert together["mistakes"] == apart["mistakes"]
    for name in ("localization_accuracy", "top5_localization_accuracy", "mean_iou", "accuracy"):
        assert together[name] == pytest.approx(apart[name], rel=1e-12)


def test_padding_and_images_without_an_object_do_not_count() -> None:
    predictions, targets = batch(60)
    weight = np.ones(60)
    weight[:10] = 0
    labels = np.where(np.arange(60) < 20, -1, targets["label"])
    some = scores_of(predictions, {**targets, "label": labels}, weight)
    rest = scores_of(
        {name: value[20:] for name, value in predictions.items()},
        {name: value[20:] for name, value in targets.items()},
        np.ones(40),
    )
    assert some["images"] == 40 and some == rest


def test_an_overlap_of_exactly_half_is_enough() -> None:
    predictions = {
        "probabilities": np.eye(len(CLASSES), dtype=np.float32)[[0]],
        "box": np.array([[0, 0, 100, 100]], np.float32),
        "image_size": np.array([[100, 200]]),
    }
    targets = {"label": np.array([0]), "box": np.array([[0, 0, 1, 1]], np.float32)}
    scores = scores_of(predictions, targets, np.ones(1))
    assert scores["mean_iou"] == 0.5 and scores["localization_accuracy"] == 1


def test_localization_scores_without_images_are_nan() -> None:
    scores = scores_of(*batch(0), np.zeros(0))
    assert scores["images"] == 0
    assert all(
        math.isnan(scores[name]) for name in ("localization_accuracy", "mean_iou", "accuracy")
    )
