"""Scores of a localizer, accumulated batch by batch in NumPy; padding and unreadable examples have
weight 0.

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
"""A box is right from this overlap with the object's on (Russakovsky et al. 2015, section 4.2)."""
TOP = 5


class LocalizationMetrics:
    """Localization accuracy and error as ILSVRC counts them, overlaps, and a classifier's scores.

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
        """Take in a batch; images of weight 0 don't count.

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
        """Return the scores; shares in [0, 1], nan where there is nothing to divide by.

        Returns:
            images (with an object), localization_accuracy and localization_error (class right and
            IoU at least 0.5, and its complement), top5_localization_accuracy and
            top5_localization_error (the class among the five most probable), box_accuracy (IoU at
            least 0.5, whatever the class), mean_iou; everything that `ClassificationMetrics`
            returns, per_class with localization_accuracy and mean_iou; mistakes, the images by
            what is wrong in them.
        """
        none = np.zeros(0)
        labels = np.concatenate([none.astype(int), *self._labels])
        ious = np.concatenate([none, *self._ious])
        ranks = np.concatenate([none.astype(int), *self._ranks])
        placed, named = ious >= LEAST_IOU, ranks == 0
        found, in_top5 = placed & named, placed & (ranks < TOP)
        of_classes = self._classes.result()
        for number, own in enumerate(of_classes["per_class"].values()):
            own["localization_accuracy"] = _mean(found[labels == number])
            own["mean_iou"] = _mean(ious[labels == number])
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
    """Return how many classes are more probable than the true one, int [B]; of equally probable
    ones, the lower class is ahead, as in the answers.
    """
    own = probabilities[np.arange(len(labels)), labels][:, np.newaxis]
    lower = np.arange(probabilities.shape[1]) < labels[:, np.newaxis]
    return ((probabilities > own) | ((probabilities == own) & lower)).sum(axis=1)


def _mean(values: np.ndarray) -> float:
    return float(share(values.sum(), len(values)))
