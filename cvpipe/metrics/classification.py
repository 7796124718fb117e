"""Scores of a classifier, accumulated batch by batch in NumPy; padding and unreadable examples have
weight 0.

Dimensions: B examples, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cvpipe.metrics.shares import class_shares, share

CALIBRATION_BINS = 15


class ClassificationMetrics:
    """Accuracy, top-5 accuracy, loss, calibration, confusion matrix and per-class scores."""

    def __init__(self, classes: tuple[str, ...]):
        self.classes = classes
        self.confusion = np.zeros((len(classes), len(classes)), np.int64)
        """[K, K]: rows are the true class, columns the predicted one."""
        self.bins = np.zeros((CALIBRATION_BINS, 3))
        """[bins, 3] over confidence 0…1: examples, sum of confidences, correct answers."""
        self._in_top5, self._loss = 0, 0.0

    def update(
        self,
        predictions: Mapping[str, np.ndarray],
        targets: Mapping[str, np.ndarray],
        weight: np.ndarray,
    ) -> None:
        """Adds a batch: predictions["probabilities"] float32 [B, K], targets["label"] int [B],
        weight float [B] of 0 and 1.
        """
        counted = np.asarray(weight) > 0
        probabilities = np.asarray(predictions["probabilities"])[counted]
        labels = np.asarray(targets["label"])[counted]
        of_label = probabilities[np.arange(len(labels)), labels]
        answers = probabilities.argmax(-1)
        np.add.at(self.confusion, (labels, answers), 1)
        # Ties are resolved as argmax and top_k do: the lower class first.
        earlier = np.arange(len(self.classes)) < labels[:, np.newaxis]
        ahead = (probabilities > of_label[:, np.newaxis]) | (
            (probabilities == of_label[:, np.newaxis]) & earlier
        )
        self._in_top5 += int((ahead.sum(-1) < 5).sum())
        self._loss -= float(
            np.log(np.maximum(of_label.astype(np.float64), np.finfo(np.float32).tiny)).sum()
        )
        confidence = probabilities.max(-1).astype(np.float64)
        bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        np.add.at(
            self.bins, bins, np.stack([np.ones_like(confidence), confidence, answers == labels], -1)
        )

    def result(self) -> dict[str, Any]:
        """The scores; shares in [0, 1], nan where there is nothing to divide by.

        loss is the mean −ln of the true class's probability, in nats, whatever was minimized: the
        cross-entropy where probabilities add up to 1, and comparable only between models whose
        probabilities are made in the same way.

        Returns:
            images, accuracy, top5_accuracy, loss, calibration_error (expected, 15 equal bins; Guo
            et al. 2017, equation 3),
            macro_f1 (over the classes that have examples), per_class {name: {precision, recall, f1,
            images, label_share, answer_share}},
            confusion_matrix (list of rows, the true class each), calibration_bins (rows of
            examples, sum of confidences, correct).
        """
        images = int(self.confusion.sum())
        hits, truths, answers = (
            self.confusion.diagonal(),
            self.confusion.sum(1),
            self.confusion.sum(0),
        )
        precision, recall = share(hits, answers), share(hits, truths)
        f1 = share(2 * hits, truths + answers)
        count, confidence, correct = self.bins.T
        return {
            "images": images,
            "accuracy": float(share(hits.sum(), images)),
            "top5_accuracy": float(share(self._in_top5, images)),
            "loss": float(share(self._loss, images)),
            "calibration_error": float(share(np.abs(confidence - correct).sum(), count.sum())),
            "macro_f1": float(f1[truths > 0].mean()) if images else float("nan"),
            "per_class": {
                name: {
                    "precision": float(p),
                    "recall": float(r),
                    "f1": float(f),
                    "images": int(n),
                    **shares,
                }
                for name, p, r, f, n, shares in zip(
                    self.classes,
                    precision,
                    recall,
                    f1,
                    truths,
                    class_shares(truths, answers),
                    strict=True,
                )
            },
            "confusion_matrix": self.confusion.tolist(),
            "calibration_bins": self.bins.tolist(),
        }
