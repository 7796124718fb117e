"""Mistakes of localization: a wrong class, a wrong box, or both.

Dimensions: N examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.metrics.localization import LEAST_IOU
from cvpipe.metrics.pixel_boxes import area, overlaps, rounded
from cvpipe.mistakes import LONGEST, Arrays, Finding, Verdict
from cvpipe.mistakes.findings import by_size, confusion, share_group
from cvpipe.pictures.drawing import RIGHT, TRUTH, WRONG
from cvpipe.pictures.photo import Entry, draw_box, rgb, show_photo


def make_review(config: Config, facts: Facts) -> LocalizationReview:
    """Return the review of a localizer."""
    return LocalizationReview(facts.class_names)


class LocalizationReview:
    """Class and box of each image's object; images without an object aren't judged."""

    thresholds: np.ndarray | None = None

    def __init__(self, class_names: Sequence[str]):
        self.class_names = class_names
        self._verdicts: list[Verdict] = []
        self._found: list[bool] = []
        self._shares: list[float] = []

    def add(self, predictions: Arrays, targets: Arrays) -> None:
        """Add a batch, as `LocalizationMetrics.update` takes it."""
        truths, answers = _boxes(predictions, targets)
        ious = overlaps(answers, truths)[0]
        shares = _shares(targets)
        for n, (label, answer) in enumerate(
            zip(targets["label"].tolist(), predictions["class_id"].tolist(), strict=True)
        ):
            if label < 0:
                self._verdicts.append(Verdict(0, 0.0, float("nan"), _cells("", "", 0.0, 0.0)))
                continue
            named, placed = label == answer, bool(ious[n] >= LEAST_IOU)
            self._found.append(named and placed)
            self._shares.append(float(shares[n]))
            probability = float(predictions["probability"][n])
            names = self.class_names[label], self.class_names[answer]
            self._verdicts.append(
                Verdict(
                    int(not named) + int(not placed),
                    float((0 if named else probability) + 1 - ious[n]),
                    float(named and placed),
                    _cells(*names, probability, float(ious[n])),
                )
            )

    def groups(self, predictions: Arrays, targets: Arrays) -> Mapping[str, Sequence[str]]:
        """Group images by the share of the image that the object's box covers."""
        return {"share of the image": [share_group(float(part)) for part in _shares(targets)]}

    def verdicts(self) -> list[Verdict]:
        """Return verdicts. A wrong class costs its probability, and a box costs 1 − IoU."""
        return self._verdicts

    def findings(self, scores: Mapping[str, Any]) -> list[Finding]:
        """Return confused classes, and objects found by their size."""
        bounds = (0.05, 0.1, 0.2, 0.4)
        names = ["below 5%", "5–10%", "10–20%", "20–40%", "40% and more"]
        return [
            confusion(np.array(scores["confusion_matrix"]), self.class_names, "images"),
            by_size(
                np.array(self._shares),
                bounds,
                names,
                np.array(self._found, float),
                "Size is the share of the image that the object's box covers. An object is found if"
                f" its class is right and the IoU is at least {LEAST_IOU:g}.",
            ),
        ]

    def draw(self, pixels: np.ndarray, predictions: Arrays, targets: Arrays) -> Figure:
        """Draw the object in gray, and over it the answer, in blue if it is right, else in
        orange.
        """
        [truth], [answer] = _boxes(predictions, targets)
        label, predicted = int(targets["label"][0]), int(predictions["class_id"][0])
        is_right = label == predicted and bool(overlaps(answer, truth)[0] >= LEAST_IOU)
        color = RIGHT if is_right else WRONG
        legend = [Entry("truth", rgb(TRUTH)), Entry("answer", rgb(color))]
        figure, axes = show_photo(pixels, legend, LONGEST)
        if label >= 0:
            draw_box(axes, truth.tolist(), self.class_names[label], rgb(TRUTH))
        draw_box(axes, answer.tolist(), self.class_names[predicted], rgb(color))
        return figure


def _cells(label: str, answer: str, probability: float, iou: float) -> dict[str, str | float]:
    return {
        "label": label,
        "answer": answer,
        "probability": round(probability, 4),
        "iou": round(iou, 4),
    }


def _boxes(predictions: Arrays, targets: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return true and predicted boxes in pixels of the images, float64 [N, 4] each."""
    extent = np.tile(np.asarray(predictions["image_size"], np.float64), 2)
    truths = rounded(np.asarray(targets["box"], np.float64) * extent)
    return truths, rounded(predictions["box"])


def _shares(targets: Arrays) -> np.ndarray:
    shares: np.ndarray = area(np.asarray(targets["box"], np.float64))
    return shares
