"""Detection metrics, accumulated in NumPy. Examples of weight 0 are padding or unreadable.

Detections, annotations and the pairs that overlap are kept in memory until `result`. Dimensions: B
images, S detections and M objects per image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cvpipe.metrics.detection_coco import CocoTables
from cvpipe.metrics.detection_errors import best_thresholds, count_errors
from cvpipe.metrics.detection_rows import Detections, GroundTruth, Pairs, joined, no_rows, rows_of
from cvpipe.metrics.detection_voc import voc_ap
from cvpipe.metrics.shares import class_shares


class DetectionMetrics:
    """COCO's twelve metrics, Pascal VOC's AP, precision-recall curves and counts of error types."""

    def __init__(self, classes: tuple[str, ...], score_threshold: float = 0.3):
        """`score_threshold`, in [0, 1], applies to `errors` and class shares; the other metrics use
        all detections.
        """
        self.classes = classes
        self.score_threshold = score_threshold
        self._images = self._detections = self._objects = 0
        self._parts = [no_rows()]

    def update(
        self,
        predictions: Mapping[str, np.ndarray],
        targets: Mapping[str, np.ndarray],
        weight: np.ndarray,
    ) -> None:
        """Add a batch; images of weight 0 don't count.

        Args:
            predictions: "boxes" float [B, S, 4], corners in pixels of the original image, "scores"
                float [B, S] in [0, 1], "class_ids" int [B, S], "count" int [B], the number of valid
                slots, and "image_size" int [B, 2], height and width of the original image in
                pixels.
            targets: "boxes" float [B, M, 4], normalized corners; "labels" int [B, M], −1 in empty
                slots; "crowd" bool [B, M]; optionally "area" float [B, M] in pixels², below 0 if
                the annotation has none.
            weight: float [B] of 0 and 1.
        """
        counted = np.asarray(weight) > 0
        answers = {
            name: np.asarray(predictions[name])[counted]
            for name in ("boxes", "scores", "class_ids", "count")
        }
        truths = {
            name: np.asarray(targets[name])[counted]
            for name in ("boxes", "labels", "crowd", "area")
            if name in targets
        }
        truths["extent"] = np.asarray(predictions["image_size"])[counted]
        part = rows_of(answers, truths, (self._images, self._detections, self._objects))
        self._parts.append(part)
        self._images += int(counted.sum())
        self._detections += len(part[0].label)
        self._objects += len(part[1].label)

    def result(self) -> dict[str, Any]:
        """Return the scores, in [0, 1]; nan if there are no objects.

        Returns:
            ap, ap50, ap75, ap_small, ap_medium, ap_large, ar1, ar10, ar100, ar_small, ar_medium,
            ar_large as COCO defines them (Lin et al. 2014 and its evaluation code), voc_ap_11 and
            voc_ap_area (`voc_ap`), all of them means over the classes with objects; images;
            objects, without crowd regions and difficult objects; per_class {name: {ap, ap50, ap75,
            ar100, voc_ap_11, voc_ap_area, objects, label_share, answer_share}}, where shares are
            fractions of these objects and of the detections with at least `score_threshold`;
            precision_recall {"iou": 0.5, "recall": 101 numbers, "precision": 101 means over the
            classes, "per_class": {name: 101 numbers}}; errors {"score_threshold" and the counts of
            `count_errors`}; best_thresholds {name: {threshold, f1, precision, recall}}, the score
            threshold of each class with the best F1 at an IoU of 0.5.
        """
        detections, objects, pairs = (
            joined(kind, rows)
            for kind, rows in zip(
                (Detections, GroundTruth, Pairs), zip(*self._parts, strict=True), strict=True
            )
        )
        tables = CocoTables(detections, objects, self._images, self.classes)
        voc = voc_ap(detections, objects, pairs, len(self.classes))
        totals = np.bincount(objects.label[~objects.crowd], minlength=len(self.classes))
        of_class = {
            "ap": tables.ap(),
            "ap50": tables.ap(0.5),
            "ap75": tables.ap(0.75),
            "ar100": tables.ar(),
            "voc_ap_11": voc[0],
            "voc_ap_area": voc[1],
        }
        shares = class_shares(totals, self._answered(detections))
        has_objects = totals > 0
        return {
            "images": self._images,
            "objects": int(totals.sum()),
            **tables.scores(),
            "voc_ap_11": float(voc[0, has_objects].mean()) if has_objects.any() else float("nan"),
            "voc_ap_area": float(voc[1, has_objects].mean()) if has_objects.any() else float("nan"),
            "per_class": {
                name: {
                    **{score: float(values[n]) for score, values in of_class.items()},
                    "objects": int(totals[n]),
                    **shares[n],
                }
                for n, name in enumerate(self.classes)
            },
            "precision_recall": _curves(tables, self.classes, has_objects),
            "errors": {
                "score_threshold": self.score_threshold,
                **count_errors(detections, objects, pairs, self.score_threshold),
            },
            "best_thresholds": {
                name: threshold._asdict()
                for name, threshold in zip(
                    self.classes,
                    best_thresholds(detections, objects, pairs, len(self.classes)),
                    strict=True,
                )
            },
        }

    def _answered(self, detections: Detections) -> np.ndarray:
        """Count the detections of each class with at least `score_threshold`, int64 [K]."""
        confident = detections.score >= self.score_threshold
        return np.bincount(detections.label[confident], minlength=len(self.classes))


def _curves(
    tables: CocoTables, classes: tuple[str, ...], has_objects: np.ndarray
) -> dict[str, Any]:
    precision = tables.curve(0.5)[0]
    mean = (
        precision[:, has_objects].mean(1) if has_objects.any() else np.full(len(precision), np.nan)
    )
    return {
        "iou": 0.5,
        "recall": np.linspace(0, 1, len(precision)).tolist(),
        "precision": mean.tolist(),
        "per_class": {name: precision[:, n].tolist() for n, name in enumerate(classes)},
    }
