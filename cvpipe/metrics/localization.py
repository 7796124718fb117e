"""Localization metrics, accumulated in NumPy. Examples of weight 0 are padding or unreadable.

Dimensions: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cvpipe.metrics.classification import ClassificationMetrics
from cvpipe.metrics.pixel_boxes import overlaps, rounded
from cvpipe.metrics.shares import share

LEAST_IOU = 0.5
"""Minimum IoU of a correct box (Russakovsky et al. 2015, section 4.2)."""
TOP = 5


class LocalizationMetrics:
    """ILSVRC's localization accuracy and error, IoUs, and classification metrics.

    Images without an object don't count.
    """

    def __init__(self, class_names: tuple[str, ...]):
        self.class_names = class_names
        self._classes = ClassificationMetrics(class_names)
        self._labels: list[np.ndarray] = []
        self._ious: list[np.ndarray] = []
        self._ranks: list[np.ndarray] = []

    def update(
        self,
        predictions: Mapping[str, np.ndarray],
        targets: Mapping[str, np.ndarray],
        weight: np.ndarray,
    ) -> None:
        """Add a batch; images of weight 0 don't count.

        Args:
            predictions: "probabilities" float32 [B, K]; "box" float [B, 4], ymin, xmin, ymax, xmax
                in pixels of the original image; "image_size" int [B, 2], its height and width.
            targets: "label" int [B], −1 for an image without an object; "box" float [B, 4] as
                fractions of the image.
            weight: float [B] of 0 and 1.
        """
        labels = np.asarray(targets["label"])
        counted = (np.asarray(weight) > 0) & (labels >= 0)
        self._classes.update(predictions, targets, counted)
        extent = np.tile(np.asarray(predictions["image_size"])[counted], 2).astype(np.float64)
        truth = rounded(np.asarray(targets["box"], np.float64)[counted] * extent)
        answered = rounded(np.asarray(predictions["box"])[counted])
        self._labels.append(labels[counted])
        self._ious.append(overlaps(answered, truth)[0])
        self._ranks.append(
            _ranks(np.asarray(predictions["probabilities"])[counted], labels[counted])
        )

    def result(self) -> dict[str, Any]:
        """Return the scores. Fractions are in [0, 1], nan if the denominator is 0.

        Returns:
            images (with an object), localization_accuracy (correct class and IoU at least 0.5) and
            its complement localization_error, top5_localization_accuracy and
            top5_localization_error (class among the five most probable), box_accuracy (IoU at least
            0.5, any class), mean_iou; all results of `ClassificationMetrics`, with
            localization_accuracy and mean_iou added to per_class; mistakes, numbers of images with
            a wrong class, box or both.
        """
        none = np.zeros(0)
        labels = np.concatenate([none.astype(int), *self._labels])
        ious = np.concatenate([none, *self._ious])
        ranks = np.concatenate([none.astype(int), *self._ranks])
        placed, named = ious >= LEAST_IOU, ranks == 0
        found, in_top5 = placed & named, placed & (ranks < TOP)
        of_classes = self._classes.result()
        for number, row in enumerate(of_classes["per_class"].values()):
            row["localization_accuracy"] = _mean(found[labels == number])
            row["mean_iou"] = _mean(ious[labels == number])
        return {
            "images": len(labels),
            "localization_accuracy": _mean(found),
            "localization_error": _mean(~found),
            "top5_localization_accuracy": _mean(in_top5),
            "top5_localization_error": _mean(~in_top5),
            "box_accuracy": _mean(placed),
            "mean_iou": _mean(ious),
            **{name: score for name, score in of_classes.items() if name != "images"},
            "mistakes": {
                "class": int((placed & ~named).sum()),
                "box": int((~placed & named).sum()),
                "both": int((~placed & ~named).sum()),
            },
        }


def _ranks(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the rank of the true class from 0, int [B]; ties go to the lower class, as in the
    answers.
    """
    of_label = probabilities[np.arange(len(labels)), labels][:, np.newaxis]
    lower = np.arange(probabilities.shape[1]) < labels[:, np.newaxis]
    return ((probabilities > of_label) | ((probabilities == of_label) & lower)).sum(axis=1)


def _mean(values: np.ndarray) -> float:
    return float(share(values.sum(), len(values)))
