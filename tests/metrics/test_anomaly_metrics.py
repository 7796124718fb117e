"""Guards anomaly metrics: AUROCs equal scikit-learn's, padding is ignored, thresholds are best."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from cvpipe.answers.anomaly import UNCALIBRATED
from cvpipe.geometry.masks import IGNORED
from cvpipe.metrics.anomaly import AnomalyMetrics, auroc, choose_threshold

CLASSES = ("good", "scratch", "hole")


def batch(seed: int, labels: list[int], side: int = 8) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return predictions and targets; anomalies have higher scores on average."""
    random = np.random.default_rng(seed)
    number = np.array(labels)
    mask = np.zeros((len(labels), side, side), np.uint8)
    mask[:, 2:4, 1:5] = number[:, np.newaxis, np.newaxis]
    scores = (random.random(len(labels)) + 0.4 * (number > 0)).astype(np.float32)
    # Few distinct values, so that many are equal.
    heat = np.round(8 * (random.random(mask.shape) + 0.3 * (mask > 0))).astype(np.float32) / 8
    answers = {
        "anomaly_score": scores,
        "anomaly_threshold": np.full(len(labels), 0.7),
        "is_anomalous": scores > 0.7,
        "heat_map": heat,
    }
    return answers, {"label": number, "mask": mask}


def test_auroc_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    normal, anomalous = random.integers(0, 9, 50), random.integers(3, 12, 30)
    truth = np.repeat([0, 1], [50, 30])
    expected = roc_auc_score(truth, np.concatenate([normal, anomalous]))
    assert auroc(normal, anomalous) == pytest.approx(expected, abs=1e-12)


def test_scores_are_those_of_all_images_and_pixels() -> None:
    labels = [[0, 1, 2, 0], [2, 0, 0, 1]]
    metrics, parts = (
        AnomalyMetrics(CLASSES),
        [batch(n, of_batch) for n, of_batch in enumerate(labels)],
    )
    for answers, targets in parts:
        metrics.update(answers, targets, np.ones(4))
    truth = np.concatenate(labels)
    scores = np.concatenate([answers["anomaly_score"] for answers, _ in parts])
    heat = np.concatenate([answers["heat_map"].ravel() for answers, _ in parts])
    pixels = np.concatenate([targets["mask"].ravel() for _, targets in parts])
    found = metrics.result()
    assert (found["images"], found["anomalies"]) == (8, 4)
    assert found["image_auroc"] == pytest.approx(roc_auc_score(truth > 0, scores))
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(pixels > 0, heat), abs=1e-12)
    assert found["recall"] == (scores[truth > 0] > 0.7).mean()
    assert found["false_alarms"] == (scores[truth == 0] > 0.7).mean()
    of_holes = np.isin(truth, [0, 2])
    expected = roc_auc_score(truth[of_holes] > 0, scores[of_holes])
    assert found["per_class"]["hole"]["image_auroc"] == pytest.approx(expected)
    np.testing.assert_array_equal(found["image_scores"]["scratch"], scores[truth == 1])


def test_scores_of_pixels_are_distinguished_finely_enough() -> None:
    random = np.random.default_rng(3)
    heat = random.gamma(2, 3, (4, 40, 40)).astype(np.float32)
    mask = (random.random(heat.shape) < heat / 40).astype(np.uint8)
    metrics = AnomalyMetrics(CLASSES)
    answers = {**batch(0, [0, 1, 1, 1])[0], "heat_map": heat}
    metrics.update(answers, {"label": np.array([0, 1, 1, 1]), "mask": mask}, np.ones(4))
    expected = roc_auc_score(mask.ravel(), heat.ravel())
    assert metrics.result()["pixel_auroc"] == pytest.approx(expected, abs=1e-4)


def test_padding_ignored_pixels_and_images_of_weight_0_do_not_count() -> None:
    answers, targets = batch(0, [0, 1, 1])
    alone = AnomalyMetrics(CLASSES)
    alone.update(answers, targets, np.ones(3))
    padded = {
        **answers,
        "heat_map": np.pad(answers["heat_map"], [(0, 0), (0, 3), (0, 1)], constant_values=-1),
    }
    mask = np.pad(targets["mask"], [(0, 0), (0, 2), (0, 5)], constant_values=IGNORED)
    more, more_targets = batch(1, [2])
    many = AnomalyMetrics(CLASSES)
    many.update(padded, {**targets, "mask": mask}, np.ones(3))
    many.update(more, more_targets, np.zeros(1))
    unknown = {**more_targets, "mask": np.full_like(more_targets["mask"], IGNORED)}
    for name in ("images", "image_auroc", "pixel_auroc", "recall"):
        assert many.result()[name] == alone.result()[name]
    many.update(more, unknown, np.ones(1))
    assert many.result()["images"] == 4
    assert many.result()["pixel_auroc"] == alone.result()["pixel_auroc"]


@pytest.mark.parametrize("label, kind", [(0, "normal"), (1, "anomalous")])
def test_the_auroc_of_images_of_one_kind_is_undefined_with_a_warning(
    label: int, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = AnomalyMetrics(CLASSES)
    metrics.update(*batch(0, [label] * 3), np.ones(3))
    with caplog.at_level(logging.WARNING):
        found = metrics.result()
    assert np.isnan(found["image_auroc"])
    assert f"image_auroc is undefined: of 3 images, all are {kind}" in caplog.text


def test_without_a_threshold_there_is_no_verdict() -> None:
    metrics, (answers, targets) = AnomalyMetrics(CLASSES), batch(0, [0, 1])
    metrics.update({**answers, "anomaly_threshold": np.full(2, UNCALIBRATED)}, targets, np.ones(2))
    found = metrics.result()
    assert np.isnan(found["false_alarms"]) and np.isnan(found["recall"])
    assert not np.isnan(found["image_auroc"])


def test_a_threshold_of_0_gives_verdicts() -> None:
    metrics, (answers, targets) = AnomalyMetrics(CLASSES), batch(0, [0, 0, 1])
    scores = np.float32([0, 0.5, 2])
    answers |= {"anomaly_score": scores, "anomaly_threshold": np.zeros(3)}
    metrics.update({**answers, "is_anomalous": scores > 0}, targets, np.ones(3))
    found = metrics.result()
    assert (found["recall"], found["false_alarms"]) == (1, 0.5)


def test_without_images_nothing_is_defined() -> None:
    found = AnomalyMetrics(CLASSES).result()
    assert found["images"] == 0 and np.isnan(found["pixel_auroc"]) and np.isnan(found["recall"])


def test_the_threshold_of_both_kinds_has_the_highest_f1() -> None:
    random = np.random.default_rng(5)
    normal, anomalous = random.gamma(2, 1, 40), random.gamma(5, 1, 25)
    truth = np.repeat([0, 1], [40, 25])
    scores = np.concatenate([normal, anomalous])
    chosen = choose_threshold(normal, anomalous, 0.0, 0.1)
    best = max(f1_score(truth, scores > edge) for edge in [0, *scores])
    assert f1_score(truth, scores > chosen) == pytest.approx(best)
    assert chosen not in scores


def test_the_threshold_of_scores_that_are_apart_is_halfway() -> None:
    assert choose_threshold(np.array([1.0, 2.0]), np.array([4.0, 5.0]), 0.0, 0.1) == 3.0


@pytest.mark.parametrize(
    ("normal", "anomalous", "threshold"),
    [
        ([], [0.4, 0.5], 0.2),
        ([0.4], [0.4, 0.4], 0.2),
        ([0.0], [0.0, 1.0], 0.5),
        ([0.0], [0.0], 0.0),
        ([], [0.0], 0.0),
    ],
)
def test_a_threshold_below_most_scores_is_at_least_0(
    normal: list[float], anomalous: list[float], threshold: float
) -> None:
    assert choose_threshold(np.array(normal), np.array(anomalous), 0.0, 0.1) == threshold


def test_the_threshold_of_normal_images_is_above_all_but_the_false_alarms() -> None:
    normal, none = np.arange(1.0, 102.0), np.zeros(0)
    assert choose_threshold(normal, none, 0.0, 0.0) == 101
    assert choose_threshold(normal, none, 0.05, 0.0) == 96
    assert choose_threshold(normal, none, 0.0, 0.1) == pytest.approx(101 + 0.1 * 50)
    assert choose_threshold(np.zeros(3), none, 0.0, 0.1) == 0
    assert choose_threshold(none, none, 0.0, 0.1) == UNCALIBRATED
