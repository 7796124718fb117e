"""Mistakes of detection: objects that are missed, and answers that find no object.

Dimensions: N images, K classes; D detections and O objects of all images.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.metrics.detection_errors import KINDS, Judged, best_thresholds, judge
from cvpipe.metrics.detection_rows import (
    LEAST_OVERLAP,
    Detections,
    GroundTruth,
    Pairs,
    joined,
    no_rows,
    rows_of,
)
from cvpipe.metrics.thresholds import Threshold
from cvpipe.mistakes import LONGEST, Arrays, Finding, Verdict
from cvpipe.mistakes.findings import by_size, confusion, count_group, thresholds
from cvpipe.pictures.drawing import MISSED, RIGHT, TRUTH, WRONG
from cvpipe.pictures.photo import Entry, draw_box, rgb, show_photo

UNKNOWN_THRESHOLD = 0.3
"""Threshold of classes whose best threshold is unknown, because no answer is right."""
SIDES = (16, 32, 64, 96, 192)
"""Bounds between groups of objects, by the square root of their area in pixels."""
Rows = tuple[Detections, GroundTruth, Pairs]


def make_review(config: Config, facts: Facts) -> DetectionReview:
    """Return the review of a detector."""
    return DetectionReview(facts.class_names)


class DetectionReview:
    """Detections that reach the best threshold of their class, compared with the objects."""

    def __init__(self, class_names: Sequence[str]):
        self.class_names = class_names
        self._images = self._detections = self._objects = 0
        self._parts: list[Rows] = [no_rows()]
        self._best: list[Threshold] = []
        self.thresholds: np.ndarray | None = None

    def add(self, predictions: Arrays, targets: Arrays) -> None:
        """Add a batch, as `DetectionMetrics.update` takes it."""
        part = _rows(predictions, targets, (self._images, self._detections, self._objects))
        self._parts.append(part)
        self._images += len(predictions["count"])
        self._detections += len(part[0].label)
        self._objects += len(part[1].label)

    def groups(self, predictions: Arrays, targets: Arrays) -> Mapping[str, Sequence[str]]:
        """Group images by the number of their objects."""
        counts = ((targets["labels"] >= 0) & ~targets["crowd"]).sum(1)
        return {"objects in the image": [count_group(int(count)) for count in counts]}

    def verdicts(self) -> list[Verdict]:
        """Return verdicts. A missed object costs 1, and a wrong answer its score."""
        detections, objects, pairs = self._all()
        if self.thresholds is None:
            self._best = best_thresholds(detections, objects, pairs, len(self.class_names))
            best = np.array([best.threshold for best in self._best])
            self.thresholds = np.where(np.isnan(best), UNKNOWN_THRESHOLD, best)
        judged = self._judge(detections, objects, pairs)
        self._judged = judged

        def per_image(images: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
            return np.bincount(images, weights, minlength=self._images)

        is_wrong = judged.kind > 0
        right = per_image(detections.image[judged.kind == 0])
        wrong = per_image(detections.image[is_wrong])
        doubt = per_image(detections.image[is_wrong], detections.score[is_wrong])
        missed = per_image(objects.image[judged.missed])
        there = per_image(objects.image[~objects.crowd])
        kinds: list[Counter[str]] = [Counter() for _ in range(self._images)]
        for image, kind in zip(
            detections.image[is_wrong].tolist(), judged.kind[is_wrong].tolist(), strict=True
        ):
            kinds[image][KINDS[kind]] += 1
        return [
            Verdict(
                int(wrong[n] + missed[n]),
                float(doubt[n] + missed[n]),
                # F1; 1 if there is neither an object nor an answer.
                float(2 * right[n] / max(right[n] + wrong[n] + there[n], 1))
                if right[n] + wrong[n] + there[n]
                else 1.0,
                {
                    "objects": int(there[n]),
                    "right": int(right[n]),
                    "wrong": int(wrong[n]),
                    "missed": int(missed[n]),
                    "wrong_by": ", ".join(f"{kind} {count}" for kind, count in kinds[n].items()),
                },
            )
            for n in range(self._images)
        ]

    def findings(self, scores: Mapping[str, Any]) -> list[Finding]:
        """Return confused classes, objects found by size, and thresholds."""
        detections, objects, _ = self._all()
        judged = self._judged
        has_object = (judged.object >= 0) & (judged.kind >= 0)
        counts = np.zeros((len(self.class_names) + 1,) * 2, np.int64)
        object_of = judged.object[has_object]
        np.add.at(counts, (objects.label[object_of], detections.label[has_object]), 1)
        np.add.at(counts[-1], detections.label[(judged.kind > 0) & ~has_object], 1)
        np.add.at(counts[:, -1], objects.label[judged.missed], 1)
        found = np.zeros(len(objects.label))
        found[judged.object[judged.kind == 0]] = 1
        counted = ~objects.crowd
        confused = confusion(counts, [*self.class_names, "nothing"], "objects")
        text = (
            f"Correct answers, and errors of location (IoU from {LEAST_OVERLAP:g}) or class, are"
            ' counted for the object that they overlap most. The column "nothing" has the missed'
            ' objects, and the row "nothing" has all other answers.'
        )
        bounds = ["0", *map(str, SIDES)]
        names = [f"{low}–{high} px" for low, high in itertools.pairwise(bounds)]
        return [
            confused._replace(text=text),
            by_size(
                np.sqrt(objects.area[counted]),
                SIDES,
                [*names, f"from {SIDES[-1]} px"],
                found[counted],
                "Size is the side of a square with the object's area, in pixels of the image.",
            ),
            thresholds(
                self.class_names,
                self._best,
                "Answers with at least these scores are drawn and counted here. The thresholds were"
                " chosen on this split, at an IoU of 0.5. cvpipe export RUN --threshold best"
                " chooses thresholds on the validation split and stores them in the artifact.",
            ),
        ]

    def draw(self, pixels: np.ndarray, predictions: Arrays, targets: Arrays) -> Figure:
        """Draw found objects in blue, wrong answers in orange, and missed objects in purple."""
        detections, objects, pairs = _rows(predictions, targets, (0, 0, 0))
        judged = self._judge(detections, objects, pairs)
        drawn: list[tuple[np.ndarray, str, str]] = []
        for box, label, is_missed, is_crowd in zip(
            objects.box, objects.label, judged.missed, objects.crowd, strict=True
        ):
            if is_missed or is_crowd:
                drawn.append((box, self.class_names[label], MISSED if is_missed else TRUTH))
        # The best detections are drawn last, on top.
        for n in reversed(np.flatnonzero(judged.kind >= 0)):
            kind = KINDS[judged.kind[n]]
            title = f"{self.class_names[detections.label[n]]} {detections.score[n]:.0%}"
            if kind == "class":
                title += f", is {self.class_names[objects.label[judged.object[n]]]}"
            elif kind != "correct":
                title += f", {kind}"
            drawn.append((detections.box[n], title, RIGHT if kind == "correct" else WRONG))
        colors = {"found": RIGHT, "wrong": WRONG, "missed": MISSED, "not counted": TRUTH}
        used = {color for _, _, color in drawn}
        legend = [Entry(name, rgb(color)) for name, color in colors.items() if color in used]
        figure, axes = show_photo(pixels, legend, LONGEST)
        for box, title, color in drawn:
            draw_box(axes, box.tolist(), title, rgb(color))
        return figure

    def _judge(self, detections: Detections, objects: GroundTruth, pairs: Pairs) -> Judged:
        limits = np.full(len(self.class_names), UNKNOWN_THRESHOLD)
        if self.thresholds is not None:
            limits = self.thresholds
        is_counted = detections.score >= limits[detections.label]
        return judge(detections, objects, pairs, is_counted)

    def _all(self) -> Rows:
        kinds = (Detections, GroundTruth, Pairs)
        columns = zip(*self._parts, strict=True)
        detections, objects, pairs = (
            joined(kind, parts) for kind, parts in zip(kinds, columns, strict=True)
        )
        return detections, objects, pairs


def _rows(predictions: Arrays, targets: Arrays, first: tuple[int, int, int]) -> Rows:
    return rows_of(predictions, {**targets, "extent": predictions["image_size"]}, first)
