"""Mistakes of segmentation: pixels of one class that are taken for another.

Dimensions: N images of H × W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.geometry.masks import IGNORED, overlay
from cvpipe.metrics.shares import mean_of_defined, share
from cvpipe.mistakes import LONGEST, Arrays, Finding, Verdict
from cvpipe.mistakes.findings import by_size, confusion
from cvpipe.pictures.drawing.grids import image_table

WRONG_COLOR = (213, 94, 0)


def make_review(config: Config, facts: Facts) -> SegmentationReview:
    """Return the review of a segmenter."""
    return SegmentationReview(facts.class_names)


class SegmentationReview:
    """Confusion of pixels in each image; ignored pixels don't count."""

    thresholds: np.ndarray | None = None

    def __init__(self, class_names: Sequence[str]):
        self.class_names = class_names
        self._verdicts: list[Verdict] = []
        # For each class in each image: its share of the image, and the share of its pixels that is
        # found.
        self._shares: list[float] = []
        self._found: list[float] = []

    def add(self, predictions: Arrays, targets: Arrays) -> None:
        """Add a batch: "mask" of both, uint8 [N, H, W], padded, and "image_size"."""
        for n in range(len(predictions["mask"])):
            answer, truth = _masks(predictions, targets, n)
            counts = self._pairs(answer, truth)
            hits, truths, answers = counts.diagonal(), counts.sum(1), counts.sum(0)
            pixels, wrong = int(truths.sum()), int(truths.sum() - hits.sum())
            iou = share(hits, truths + answers - hits)
            is_there = truths > 0
            self._shares += share(truths[is_there], pixels).tolist()
            self._found += share(hits[is_there], truths[is_there]).tolist()
            mean = mean_of_defined(iou)
            defined = np.where(np.isnan(iou), np.inf, iou)
            worst = self.class_names[int(defined.argmin())] if pixels else ""
            self._verdicts.append(
                Verdict(
                    wrong,
                    float(np.nan_to_num(1 - mean)),
                    mean,
                    {
                        "mean_iou": round(mean, 4),
                        "wrong_pixels": wrong,
                        "wrong_share": round(float(share(wrong, pixels)), 4),
                        "worst_class": worst,
                        "iou_of_worst": round(float(np.nanmin([*iou, 1.0])), 4),
                    },
                )
            )

    def groups(self, predictions: Arrays, targets: Arrays) -> Mapping[str, Sequence[str]]:
        """Group images by the number of classes that they show."""
        counts = [len(np.unique(mask[mask != IGNORED])) for mask in targets["mask"]]
        return {"classes in the image": list(map(str, counts))}

    def verdicts(self) -> list[Verdict]:
        """Return verdicts; the cost is 1 − the mean IoU of the image's classes."""
        return self._verdicts

    def findings(self, scores: Mapping[str, Any]) -> list[Finding]:
        """Return confused classes, and the share of pixels found, by the size of a class."""
        names = ["below 1%", "1–5%", "5–20%", "20–50%", "50% and more"]
        return [
            confusion(np.array(scores["confusion_matrix"]), self.class_names, "pixels"),
            by_size(
                np.array(self._shares),
                (0.01, 0.05, 0.2, 0.5),
                names,
                np.array(self._found),
                "Each class of each image counts as an object. The size is the share of the image"
                " that the class covers; found is the mean share of the class's pixels that are"
                " predicted as this class.",
            ),
        ]

    def draw(self, pixels: np.ndarray, predictions: Arrays, targets: Arrays) -> Figure:
        """Draw the image beside truth, answer, and the wrong pixels in orange."""
        answer, truth = _masks(predictions, targets, 0)
        image = pixels[: truth.shape[0], : truth.shape[1]]
        step = max(-(-max(image.shape[:2]) // LONGEST), 1)
        image, answer, truth = (array[::step, ::step] for array in (image, answer, truth))
        gray = np.broadcast_to(image.mean(-1, keepdims=True), (*image.shape[:2], 3))
        wrong = np.where(
            ((answer != truth) & (truth != IGNORED))[..., np.newaxis], WRONG_COLOR, 0.5 * gray
        ).astype(np.uint8)
        rgb = np.broadcast_to(image, (*image.shape[:2], 3))
        row = np.stack([rgb, overlay(rgb, truth), overlay(rgb, answer), wrong])
        return image_table([row], [""], ["image", "truth", "answer", "wrong pixels"])

    def _pairs(self, answer: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Count pixels by their true class and their answer: int64 [K, K]."""
        classes, counted = len(self.class_names), truth != IGNORED
        pairs = truth[counted].astype(np.int64) * classes + answer[counted]
        return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _masks(predictions: Arrays, targets: Arrays, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return answer and truth of image n without their padding."""
    height, width = predictions["image_size"][n]
    return predictions["mask"][n, :height, :width], targets["mask"][n, :height, :width]
