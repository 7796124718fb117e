"""COCO's twelve metrics, computed by faster-coco-eval in C++. They agree with pycocotools to the
last bits.

Dimensions: T IoU thresholds, R recall levels, K classes, A area ranges, L detection limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cvpipe.metrics.detection_rows import Detections, GroundTruth
from cvpipe.metrics.pixel_boxes import DECIMALS, area
from cvpipe.metrics.shares import mean_of_defined

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
SIZES = ("all", "small", "medium", "large")
LIMITS = (1, 10, 100)
"""Limits on the number of detections per image; the detections with the highest scores count."""


class CocoTables:
    """COCO's precision and recall tables. All of COCO's scores are means of these tables. Classes
    without objects have nan.
    """

    def __init__(
        self, detections: Detections, objects: GroundTruth, images: int, classes: Sequence[str]
    ):
        evaluation = _evaluate(detections, objects, images, classes)
        self.precision = _undefined_as_nan(evaluation["precision"])
        """float64 [T, R, K, A, L] at the recalls 0, 0.01 … 1."""
        self.recall = _undefined_as_nan(evaluation["recall"])
        """float64 [T, K, A, L]."""

    def scores(self) -> dict[str, float]:
        """Return the twelve metrics over the classes with objects."""
        return {
            "ap": mean_of_defined(self.ap()),
            "ap50": mean_of_defined(self.ap(0.5)),
            "ap75": mean_of_defined(self.ap(0.75)),
            **{f"ap_{size}": mean_of_defined(self.ap(size=size)) for size in SIZES[1:]},
            **{f"ar{limit}": mean_of_defined(self.ar(limit=limit)) for limit in LIMITS},
            **{f"ar_{size}": mean_of_defined(self.ar(size=size)) for size in SIZES[1:]},
        }

    def ap(self, iou: float | None = None, size: str = "all") -> np.ndarray:
        """Return the average precision of every class, [K], at one IoU or averaged over all ten."""
        return self.curve(iou, size).mean((0, 1))

    def ar(self, size: str = "all", limit: int = 100) -> np.ndarray:
        """Return the average recall of every class over all IoUs, [K]."""
        return self.recall[:, :, SIZES.index(size), LIMITS.index(limit)].mean(0)

    def curve(self, iou: float | None = None, size: str = "all") -> np.ndarray:
        """Return the precision at every recall level, [T or 1, R, K]."""
        chosen = slice(None) if iou is None else [THRESHOLDS.index(iou)]
        return self.precision[chosen][..., SIZES.index(size), -1]


def _evaluate(
    detections: Detections, objects: GroundTruth, images: int, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    # Imported here, because only scoring needs it.
    from faster_coco_eval import COCO, COCOeval_faster

    def coco(annotations: list[dict[str, Any]]) -> COCO:
        filled = COCO()
        filled.dataset = {
            "images": [{"id": image} for image in range(images)],
            "annotations": annotations,
            "categories": [{"id": label, "name": name} for label, name in enumerate(classes)],
        }
        filled.createIndex()
        return filled

    truths = [
        {**row, "iscrowd": int(crowd)}
        for row, crowd in zip(
            _rows(objects.image, objects.label, objects.box, objects.area),
            objects.crowd,
            strict=True,
        )
    ]
    answers = [
        {**row, "iscrowd": 0, "score": score}
        for row, score in zip(
            _rows(detections.image, detections.label, detections.box, area(detections.box)),
            detections.score.tolist(),
            strict=True,
        )
    ]
    evaluation = COCOeval_faster(coco(truths), coco(answers), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval


def _rows(
    image: np.ndarray, label: np.ndarray, box: np.ndarray, areas: np.ndarray
) -> list[dict[str, Any]]:
    """Return the fields that COCO's annotations and detections share. Boxes are [x, y, width,
    height] and ids begin at 1.
    """
    # Differences of rounded numbers have to be rounded again.
    xywh = np.round(np.concatenate([box[:, 1::-1], box[:, :1:-1] - box[:, 1::-1]], 1), DECIMALS)
    columns = zip(image.tolist(), label.tolist(), xywh.tolist(), areas.tolist(), strict=True)
    return [
        {"id": n, "image_id": i, "category_id": k, "bbox": b, "area": a}
        for n, (i, k, b, a) in enumerate(columns, 1)
    ]


def _undefined_as_nan(table: Any) -> np.ndarray:
    values = np.array(table, np.float64)
    return np.where(values < 0, np.nan, values)
