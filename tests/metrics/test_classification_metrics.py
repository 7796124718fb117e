"""Guards classification scores, against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics

from cvpipe.errors import UserError
from cvpipe.metrics.classification import ClassificationMetrics


def answers(images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities float32 [images, classes], mostly right, and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes)) + 1.5 * np.eye(classes)[labels]
    return (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32), labels


def counted(
    probabilities: np.ndarray,
    labels: np.ndarray,
    batch: int = 1000,
    weight: np.ndarray | None = None,
) -> ClassificationMetrics:
    metrics = ClassificationMetrics(tuple(f"class {n}" for n in range(probabilities.shape[1])))
    weight = np.ones(len(labels)) if weight is None else weight
    for begin in range(0, len(labels), batch):
        part = slice(begin, begin + batch)
        metrics.update(
            {"probabilities": probabilities[part]}, {"label": labels[part]}, weight[part]
        )
    return metrics


def test_the_scores_equal_scikit_learns() -> None:
    probabilities, labels = answers(500, 8)
    scores = counted(probabilities, labels).result()
    predicted = probabilities.argmax(-1)
    assert scores["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
    assert scores["top5_accuracy"] == pytest.approx(
        sklearn.metrics.top_k_accuracy_score(labels, probabilities, k=5)
    )
    assert scores["loss"] == pytest.approx(
        sklearn.metrics.log_loss(labels, probabilities), rel=1e-5
    )
    assert scores["macro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(labels, predicted, average="macro")
    )
    np.testing.assert_array_equal(
        scores["confusion_matrix"], sklearn.metrics.confusion_matrix(labels, predicted)
    )
    expected = sklearn.metrics.precision_recall_fscore_support(labels, predicted)
    columns = ("precision", "recall", "f1", "images")
    found = [[row[column] for row in scores["per_class"].values()] for column in columns]
    np.testing.assert_allclose(found, expected)


def test_the_calibration_error_equals_its_definition() -> None:
    probabilities, labels = answers(500, 4)
    confidence, right = probabilities.max(-1).astype(np.float64), probabilities.argmax(-1) == labels
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert counted(probabilities, labels).result()["calibration_error"] == pytest.approx(expected)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_batching_changes_nothing(batch: int) -> None:
    probabilities, labels = answers(100, 6)
    whole, parts = (
        counted(probabilities, labels).result(),
        counted(probabilities, labels, batch).result(),
    )
    assert parts.pop("loss") == pytest.approx(whole.pop("loss"))
    assert parts.pop("calibration_error") == pytest.approx(whole.pop("calibration_error"))
    np.testing.assert_allclose(parts.pop("calibration_bins"), whole.pop("calibration_bins"))
    assert parts == whole


def test_examples_of_weight_zero_dont_count() -> None:
    probabilities, labels = answers(60, 6)
    weight = np.arange(60) % 3 > 0
    assert (
        counted(probabilities, labels, weight=weight).result()
        == counted(probabilities[weight], labels[weight]).result()
    )


def test_equal_probabilities_are_ranked_by_class_as_the_answer_is() -> None:
    tied = np.full((10, 10), 0.1, np.float32)
    scores = counted(tied, np.arange(10)).result()
    assert (scores["accuracy"], scores["top5_accuracy"]) == (0.1, 0.5)


def test_top5_of_few_classes_is_always_right() -> None:
    assert counted(*answers(50, 3)).result()["top5_accuracy"] == 1


def test_the_loss_of_a_label_of_probability_zero_is_large_and_finite() -> None:
    scores = counted(np.array([[1, 0]], np.float32), np.array([1])).result()
    assert 80 < scores["loss"] < 100


def test_a_network_that_returns_nan_is_an_error_sentence_unless_the_image_doesnt_count() -> None:
    probabilities = np.array([[0.5, 0.5], [np.nan, np.nan]], np.float32)
    metrics = ClassificationMetrics(("a", "b"))
    predictions, targets = {"probabilities": probabilities}, {"label": np.array([0, 1])}
    metrics.update(predictions, targets, np.array([1.0, 0.0]))
    assert metrics.result()["images"] == 1
    with pytest.raises(UserError, match="the network returns NaN instead of probabilities"):
        metrics.update(predictions, targets, np.array([1.0, 1.0]))


def test_nothing_evaluated_gives_nan_not_an_error() -> None:
    scores = counted(*answers(0, 3)).result()
    assert scores["images"] == 0
    assert all(
        math.isnan(scores[name])
        for name in ("accuracy", "top5_accuracy", "loss", "calibration_error", "macro_f1")
    )


def test_a_class_that_never_occurs_has_no_recall_and_doesnt_lower_the_mean() -> None:
    probabilities = np.eye(3, dtype=np.float32)[[0, 1, 0]]
    scores = counted(probabilities, np.array([0, 1, 0])).result()
    assert scores["macro_f1"] == 1
    assert math.isnan(scores["per_class"]["class 2"]["recall"])
