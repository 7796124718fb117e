"""Pose metrics, accumulated in NumPy. Examples of weight 0 are padding or unreadable. Keypoints
that aren't annotated don't count.

Dimensions: B images, F figures of all images, P keypoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cvpipe.metrics.pose_oks import oks_scores

SHARE = 0.1
"""Largest error of a correct keypoint, as a fraction of the longer side of its figure's box."""


class PoseMetrics:
    """PCK@0.1, mean error, and average precision by OKS."""

    def __init__(self, names: tuple[str, ...]):
        self.names = names
        self._rows: dict[str, list[np.ndarray]] = {
            "points": [np.zeros((0, len(names), 2))],
            "truths": [np.zeros((0, len(names), 2))],
            "visibility": [np.zeros((0, len(names)), np.int64)],
            "boxes": [np.zeros((0, 4))],
            "areas": [np.zeros(0)],
            "scores": [np.zeros(0)],
        }

    def update(
        self,
        predictions: Mapping[str, np.ndarray],
        targets: Mapping[str, np.ndarray],
        weight: np.ndarray,
    ) -> None:
        """Add a batch; images of weight 0 don't count.

        Args:
            predictions: "keypoints" float [B, P, 2], y and x in pixels of the original image;
                "scores" float [B, P] in [0, 1]; "image_size" int [B, 2], that image's height and
                width.
            targets: "keypoints" float [B, P, 2] and "box" float [B, 4] as fractions of the image;
                "visibility" int [B, P], 0 for points that aren't annotated; "area" float [B], the
                figure's area in pixels², below 0 if only its box is known.
            weight: float [B] of 0 and 1.
        """
        counted = np.asarray(weight) > 0
        extent = np.asarray(predictions["image_size"], np.float64)[counted]
        boxes = np.asarray(targets["box"], np.float64)[counted] * np.tile(extent, 2)
        annotated_areas = np.asarray(targets["area"], np.float64)[counted]
        truths = np.asarray(targets["keypoints"], np.float64)[counted] * extent[:, np.newaxis]
        rows = {
            "points": np.asarray(predictions["keypoints"], np.float64)[counted],
            "truths": truths,
            "visibility": np.asarray(targets["visibility"], np.int64)[counted],
            "boxes": boxes,
            "areas": np.where(
                annotated_areas >= 0, annotated_areas, (boxes[:, 2:] - boxes[:, :2]).prod(1)
            ),
            "scores": np.asarray(predictions["scores"], np.float64)[counted].mean(1),
        }
        for name, values in rows.items():
            self._rows[name].append(values)

    def result(self) -> dict[str, Any]:
        """Return the scores; nan if nothing is annotated.

        Returns:
            images; figures and keypoints, the annotated ones; pck, the fraction of keypoints
            predicted within 0.1 × the longer side of the figure's box (Yang and Ramanan 2013, PCK);
            pck_visible and pck_hidden, the same over visible and over hidden keypoints; mean_error,
            the mean distance as a fraction of that side; oks_ap, oks_ap50 and oks_ap75 from
            `oks_scores`; per_keypoint {name: {pck, mean_error, keypoints}}.
        """
        rows = {name: np.concatenate(parts) for name, parts in self._rows.items()}
        annotated = rows["visibility"] > 0
        side = np.maximum((rows["boxes"][:, 2:] - rows["boxes"][:, :2]).max(1), 1e-9)
        error = np.linalg.norm(rows["points"] - rows["truths"], axis=-1) / side[:, np.newaxis]
        correct = error <= SHARE
        return {
            "images": len(annotated),
            "figures": int(annotated.any(1).sum()),
            "keypoints": int(annotated.sum()),
            "pck": _mean(correct[annotated]),
            "pck_visible": _mean(correct[rows["visibility"] == 2]),
            "pck_hidden": _mean(correct[rows["visibility"] == 1]),
            "mean_error": _mean(error[annotated]),
            **oks_scores(**rows, names=self.names),
            "per_keypoint": {
                name: {
                    "pck": _mean(correct[annotated[:, n], n]),
                    "mean_error": _mean(error[annotated[:, n], n]),
                    "keypoints": int(annotated[:, n].sum()),
                }
                for n, name in enumerate(self.names)
            },
        }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
