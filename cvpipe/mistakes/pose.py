"""Mistakes of pose: keypoints that are predicted in a wrong place.

Dimensions: N images, P keypoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.metrics.pose import SHARE
from cvpipe.metrics.shares import mean_of_defined
from cvpipe.mistakes import LONGEST, Arrays, Finding, Verdict
from cvpipe.mistakes.findings import by_size, share_group
from cvpipe.pictures.drawing import RIGHT, TRUTH, WRONG
from cvpipe.pictures.photo import Entry, rgb, show_photo
from cvpipe.pictures.pose import draw_points

FAR = 1.0
"""Upper limit of a keypoint's error in the cost, relative to the longer side of the figure's
box.
"""


def make_review(config: Config, facts: Facts) -> PoseReview:
    """Return the review of a pose network."""
    return PoseReview(facts)


class PoseReview:
    """Errors of annotated keypoints, relative to the longer side of the figure's box."""

    thresholds: np.ndarray | None = None

    def __init__(self, facts: Facts):
        self.facts = facts
        self._verdicts: list[Verdict] = []
        self._shares: list[float] = []
        self._found: list[float] = []

    def add(self, predictions: Arrays, targets: Arrays) -> None:
        """Add a batch, as `PoseMetrics.update` takes it."""
        errors, shares = _errors(predictions, targets), _box_shares(targets)
        for error, part in zip(errors, shares, strict=True):
            wrong = error > SHARE
            right = mean_of_defined(np.where(np.isnan(error), np.nan, ~wrong))
            self._shares.append(float(part))
            self._found.append(right)
            names = [name for name, is_wrong in zip(self._names, wrong, strict=True) if is_wrong]
            self._verdicts.append(
                Verdict(
                    int(wrong.sum()),
                    float(np.nan_to_num(np.minimum(error, FAR)).sum()),
                    right,
                    {
                        "keypoints": int((~np.isnan(error)).sum()),
                        "wrong": int(wrong.sum()),
                        "mean_error": round(mean_of_defined(error), 4),
                        "wrong_keypoints": ", ".join(names),
                    },
                )
            )

    def groups(self, predictions: Arrays, targets: Arrays) -> Mapping[str, Sequence[str]]:
        """Group images by the share of the image that the figure's box covers."""
        return {"share of the image": [share_group(float(part)) for part in _box_shares(targets)]}

    def verdicts(self) -> list[Verdict]:
        """Return verdicts; the cost is the sum of errors, each at most 1."""
        return self._verdicts

    def findings(self, scores: Mapping[str, Any]) -> list[Finding]:
        """Return the share of keypoints that are found, for each size of figures."""
        is_figure = ~np.isnan(self._found)
        return [
            by_size(
                np.array(self._shares)[is_figure],
                (0.05, 0.1, 0.2, 0.4),
                ["below 5%", "5–10%", "10–20%", "20–40%", "40% and more"],
                np.array(self._found)[is_figure],
                "Size is the share of the image that the figure's box covers; found is the mean"
                f" share of its keypoints within {SHARE:g} of the box's longer side.",
            )
        ]

    def draw(self, pixels: np.ndarray, predictions: Arrays, targets: Arrays) -> Figure:
        """Draw the true keypoints in gray, and over them the predicted ones, in blue if they are
        right, else in orange.
        """
        [error] = _errors(predictions, targets)
        colors = {"truth": TRUTH, "found": RIGHT, "wrong": WRONG}
        legend = [Entry(name, rgb(color)) for name, color in colors.items()]
        figure, axes = show_photo(pixels, legend, LONGEST)
        size = predictions["image_size"][0]
        visibility = targets["visibility"][0]
        truth = targets["keypoints"][0] * size
        draw_points(axes, truth, visibility > 0, visibility > 1, self.facts, TRUTH)
        answers, wrong = predictions["keypoints"][0], error > SHARE
        for chosen, color in ((~np.isnan(error) & ~wrong, RIGHT), (wrong, WRONG)):
            draw_points(axes, answers, chosen, chosen, self.facts, color)
        return figure

    @property
    def _names(self) -> tuple[str, ...]:
        return self.facts.keypoint_names


def _errors(predictions: Arrays, targets: Arrays) -> np.ndarray:
    """Return distances divided by the longer side of the box, float64 [N, P]; nan where not
    annotated.
    """
    extent = np.asarray(predictions["image_size"], np.float64)
    boxes = targets["box"] * np.tile(extent, 2)
    side = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(1), 1e-9)
    truths = targets["keypoints"] * extent[:, np.newaxis]
    error = np.linalg.norm(predictions["keypoints"] - truths, axis=-1) / side[:, np.newaxis]
    return np.where(targets["visibility"] > 0, error, np.nan)


def _box_shares(targets: Arrays) -> np.ndarray:
    sides = targets["box"][:, 2:] - targets["box"][:, :2]
    shares: np.ndarray = sides.prod(1)
    return shares
