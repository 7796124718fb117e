"""Mistakes of classification: images of one class that are taken for another.

Dimensions: N examples, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.metrics.shares import share
from cvpipe.metrics.thresholds import best_threshold
from cvpipe.mistakes import LONGEST, Arrays, Finding, Verdict
from cvpipe.mistakes.findings import confusion, thresholds
from cvpipe.pictures.photo import show_photo


def make_review(config: Config, facts: Facts) -> ClassificationReview:
    """Return the review of a classifier."""
    return ClassificationReview(facts.class_names)


class ClassificationReview:
    """Labels and answers, and the probabilities of both."""

    thresholds: np.ndarray | None = None

    def __init__(self, class_names: Sequence[str]):
        self.class_names = class_names
        self._labels: list[np.ndarray] = []
        self._probabilities: list[np.ndarray] = []

    def add(self, predictions: Arrays, targets: Arrays) -> None:
        """Add a batch: "probabilities" [N, K] and "label" [N]."""
        self._labels.append(np.asarray(targets["label"], np.int64))
        self._probabilities.append(np.asarray(predictions["probabilities"]))

    def groups(self, predictions: Arrays, targets: Arrays) -> Mapping[str, Sequence[str]]:
        """Return no groups: scores per class are in the report."""
        return {}

    def verdicts(self) -> list[Verdict]:
        """Return verdicts. The cost of a wrong answer grows with the difference between its
        probability and the label's.
        """
        labels, probabilities = self._all()
        answers = probabilities.argmax(1)
        doubts = _doubts(labels, probabilities).tolist()
        rows = zip(labels.tolist(), answers.tolist(), probabilities, doubts, strict=True)
        return [
            Verdict(
                int(label != answer),
                float(
                    of_image[answer] - of_image[label] if label != answer else 1 - of_image[label]
                ),
                float(label == answer),
                {
                    "label": self.class_names[label],
                    "answer": self.class_names[answer],
                    "probability": round(float(of_image[answer]), 4),
                    "probability_of_label": round(float(of_image[label]), 4),
                },
                doubt,
            )
            for label, answer, of_image, doubt in rows
        ]

    def findings(self, scores: Mapping[str, Any]) -> list[Finding]:
        """Return the confused classes, and the best threshold of each class against the others."""
        labels, probabilities = self._all()
        found = [
            best_threshold(probabilities[:, n], labels == n, int((labels == n).sum()))
            for n in range(len(self.class_names))
        ]
        text = (
            "An image would be assigned to a class if its probability of this class reached the"
            " threshold, regardless of other classes. Measured on this split."
        )
        return [
            confusion(np.array(scores["confusion_matrix"]), self.class_names, "images"),
            thresholds(self.class_names, found, text),
        ]

    def draw(self, pixels: np.ndarray, predictions: Arrays, targets: Arrays) -> Figure:
        """Draw the image; its classes are in the caption."""
        return show_photo(pixels, [], LONGEST)[0]

    def _all(self) -> tuple[np.ndarray, np.ndarray]:
        probabilities = np.zeros((0, len(self.class_names)))
        return (
            np.concatenate([np.zeros(0, np.int64), *self._labels]),
            np.concatenate([probabilities, *self._probabilities]),
        )


def _doubts(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the doubt in each label, float64 [N]: how much better another class fits the image.

    Networks are more confident about some classes than about others. So the probability of a class
    is reduced by its mean over the images labeled as that class, the threshold of confident
    learning (Northcutt et al. 2021, equation 2). The doubt is the largest result of the other
    classes minus that of the label.
    """
    classes = probabilities.shape[1]
    label_probability = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    usual = share(
        np.bincount(labels, label_probability, minlength=classes),
        np.bincount(labels, minlength=classes),
    )
    surplus = probabilities - np.nan_to_num(usual, nan=1.0)
    of_label = surplus[np.arange(len(labels)), labels].copy()
    surplus[np.arange(len(labels)), labels] = -np.inf
    doubts: np.ndarray = surplus.max(axis=1) - of_label
    return doubts
