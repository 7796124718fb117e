"""Guards the warning about networks that answer one class only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cvpipe.metrics.classification import ClassificationMetrics
from cvpipe.metrics.detection import DetectionMetrics
from cvpipe.metrics.segmentation import SegmentationMetrics
from cvpipe.metrics.shares import one_sided

NAMES = ("cat", "dog", "fox")


def classified(labels: list[int], answers: list[int]) -> dict[str, Any]:
    metrics = ClassificationMetrics(NAMES)
    probabilities = np.eye(3, dtype=np.float32)[answers]
    metrics.update(
        {"probabilities": probabilities}, {"label": np.array(labels)}, np.ones(len(labels))
    )
    return metrics.result()


def segmented(truth: np.ndarray, answer: np.ndarray) -> dict[str, Any]:
    metrics = SegmentationMetrics(NAMES, boundary=False)
    metrics.update({"mask": answer[np.newaxis]}, {"mask": truth[np.newaxis]}, np.ones(1))
    return metrics.result()


def detected(labels: list[int], answers: list[int], score: float = 0.9) -> dict[str, Any]:
    metrics = DetectionMetrics(NAMES)
    count = max(len(labels), len(answers), 1)

    def filled(values: list[int]) -> np.ndarray:
        return np.array([values + [-1] * (count - len(values))])

    boxes = np.tile(np.array([0.1, 0.1, 0.9, 0.9]), (1, count, 1))
    predictions = {
        "boxes": boxes * 10,
        "scores": np.full((1, count), score),
        "class_ids": filled(answers),
        "count": np.array([len(answers)]),
        "image_size": np.array([[10, 10]]),
    }
    targets = {"boxes": boxes, "labels": filled(labels), "crowd": np.zeros((1, count), bool)}
    metrics.update(predictions, targets, np.ones(1))
    return metrics.result()


def shares(scores: dict[str, Any], which: str) -> list[float]:
    return [row[which] for row in scores["per_class"].values()]


def test_each_class_has_its_shares_of_answers_and_of_labels() -> None:
    scores = classified([0, 0, 0, 1], [0, 1, 1, 1])
    assert shares(scores, "label_share") == [0.75, 0.25, 0]
    assert shares(scores, "answer_share") == [0.25, 0.75, 0]
    truth, answer = np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8)
    truth[0], truth[1], answer[:2] = 255, 2, 1
    scores = segmented(truth, answer)
    # Ignored pixels count neither as labels nor as answers.
    assert shares(scores, "label_share") == pytest.approx([2 / 3, 0, 1 / 3])
    assert shares(scores, "answer_share") == pytest.approx([2 / 3, 1 / 3, 0])
    scores = detected([1, 1, 2], [2, 2, 2, 1])
    assert shares(scores, "label_share") == pytest.approx([0, 2 / 3, 1 / 3])
    assert shares(scores, "answer_share") == [0, 0.25, 0.75]


@pytest.mark.parametrize(
    "scores, message",
    [
        (
            classified([0, 0, 1, 2], [1, 1, 1, 1]),
            "all answers are 'dog', although only 25.0% of the labels are",
        ),
        (
            segmented(np.arange(3, dtype=np.uint8)[:, np.newaxis], np.zeros((3, 1), np.uint8)),
            "all answers are 'cat', although only 33.3% of the labels are",
        ),
        (detected([0, 1], [2, 2]), "all answers are 'fox', although only 0.0% of the labels are"),
        (detected([0, 1], []), "there are no answers, although there are labels of 'cat', 'dog'"),
        # Answers with a score too low to be shown don't count.
        (detected([0], [0], score=0.1), "there are no answers, although there are labels of 'cat'"),
    ],
)
def test_a_network_that_answers_one_class_or_none_gets_a_warning(
    scores: dict[str, Any], message: str
) -> None:
    warning = one_sided(scores)
    assert (
        warning and warning.startswith(message) and "cvpipe train PIPELINE.yaml --sanity" in warning
    )


@pytest.mark.parametrize(
    "scores",
    [
        classified([0, 0, 1], [1, 1, 0]),
        # If all labels have one class, answers of this class alone are right.
        classified([1, 1], [1, 1]),
        detected([0, 0], [0]),
        detected([], []),
        detected([], [0]),
        {"accuracy": 1.0},
    ],
)
def test_a_network_that_answers_several_classes_gets_no_warning(scores: dict[str, Any]) -> None:
    assert one_sided(scores) is None
