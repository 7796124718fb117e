"""Mistakes of anomaly detection: defects taken for normal, and false alarms.

Dimensions: N images of H × W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cvpipe.answers.anomaly import LEAST_THRESHOLD, UNCALIBRATED, shades
from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.geometry.masks import IGNORED
from cvpipe.mistakes import LONGEST, Arrays, Finding, Verdict
from cvpipe.mistakes.findings import confusion
from cvpipe.pictures.drawing.grids import image_table
from cvpipe.pictures.heat import blend

VERDICTS = ("normal", "anomalous")


def make_review(config: Config, facts: Facts) -> AnomalyReview:
    """Return the review of an anomaly detector."""
    return AnomalyReview(facts.class_names)


class AnomalyReview:
    """Verdicts on images at the threshold in the answers."""

    thresholds: np.ndarray | None = None

    def __init__(self, class_names: Sequence[str]):
        self.class_names = class_names
        self._verdicts: list[Verdict] = []
        self._counts = np.zeros((2, 2), np.int64)

    def add(self, predictions: Arrays, targets: Arrays) -> None:
        """Add a batch, as `AnomalyMetrics.update` takes it."""
        for label, is_anomalous, score, threshold in zip(
            targets["label"].tolist(),
            predictions["is_anomalous"].tolist(),
            predictions["anomaly_score"].tolist(),
            predictions["anomaly_threshold"].tolist(),
            strict=True,
        ):
            is_wrong = is_anomalous != (label > 0)
            # Distance from the threshold, as a share of it; 0 before the first calibration.
            distance = abs(score - threshold) / max(threshold, LEAST_THRESHOLD)
            beyond = 0.0 if threshold == UNCALIBRATED else distance
            self._counts[int(label > 0), int(is_anomalous)] += 1
            self._verdicts.append(
                Verdict(
                    int(is_wrong),
                    beyond if is_wrong else 1 / (1 + beyond),
                    float(not is_wrong),
                    {
                        "label": self.class_names[label],
                        "answer": VERDICTS[int(is_anomalous)],
                        "score": round(score, 4),
                        "threshold": round(threshold, 4),
                    },
                )
            )

    def groups(self, predictions: Arrays, targets: Arrays) -> Mapping[str, Sequence[str]]:
        """Return no groups. The report has scores per kind of defect, and every score needs normal
        images, which have no kind of defect.
        """
        return {}

    def verdicts(self) -> list[Verdict]:
        """Return verdicts. The farther the score is from the threshold, the more a wrong verdict
        costs, and the less a right verdict costs.
        """
        return self._verdicts

    def findings(self, scores: Mapping[str, Any]) -> list[Finding]:
        """Return defects taken for normal, and false alarms."""
        return [confusion(self._counts, VERDICTS, "images")]

    def draw(self, pixels: np.ndarray, predictions: Arrays, targets: Arrays) -> Figure:
        """Draw the image beside its defect and its heat map."""
        height, width = predictions["image_size"][0]
        step = max(-(-max(height, width) // LONGEST), 1)
        place = slice(0, height, step), slice(0, width, step)
        image, mask = pixels[place], targets["mask"][0][place]
        heat = shades(predictions["heat_map"][0], float(predictions["anomaly_threshold"][0]))
        defect = ((mask > 0) & (mask != IGNORED)).astype(np.float64)
        rgb = np.broadcast_to(image, (*image.shape[:2], 3))
        row = np.stack([rgb, blend(image, defect), blend(image, heat[place] / 255)])
        return image_table([row], [""], ["image", "truth", "answer"])
