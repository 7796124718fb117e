"""Classification metrics, accumulated in NumPy. Examples of weight 0 are padding or unreadable.

Dimensions: B examples, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cvpipe.errors import UserError
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
        """Add a batch: predictions["probabilities"] float32 [B, K], targets["label"] int [B],
        weight float [B] of 0 and 1.

        Raises:
            UserError: a probability is NaN.
        """
        counted = np.asarray(weight) > 0
        probabilities = np.asarray(predictions["probabilities"])[counted]
        if np.isnan(probabilities).any():
            raise UserError(
                "the network returns NaN instead of probabilities, because training has diverged or"
                " weights are damaged; train again with a lower optimizer.learning_rate, or use an"
                " earlier checkpoint"
            )
        labels = np.asarray(targets["label"])[counted]
        of_label = probabilities[np.arange(len(labels)), labels]
        answers = probabilities.argmax(-1)
        np.add.at(self.confusion, (labels, answers), 1)
        # Ties go to the lower class, as in argmax and top_k.
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
        """Return the scores. Fractions are in [0, 1], nan if the denominator is 0.

        loss is the mean of −ln p of the true class, in nats, independent of the training loss. It
        is the cross-entropy if the probabilities add up to 1. Compare it only between models that
        compute their probabilities in the same way.

        Returns:
            images, accuracy, top5_accuracy, loss, calibration_error (expected calibration error
            over 15 equal bins; Guo et al. 2017, equation 3), macro_f1 (over the classes with
            examples), per_class {name: {precision, recall, f1, images, label_share, answer_share}},
            confusion_matrix (a row per true class), calibration_bins (rows of examples, sum of
            confidences, correct answers).
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
