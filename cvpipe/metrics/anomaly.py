"""Anomaly metrics, accumulated in NumPy. Padding, ignored pixels and examples of weight 0 never
count.

Dimensions: B images of H × W pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cvpipe.answers.anomaly import UNCALIBRATED
from cvpipe.errors import counted
from cvpipe.geometry.masks import IGNORED
from cvpipe.metrics.shares import share

log = logging.getLogger(__name__)

KEPT_BITS = 21
"""Number of leading bits of pixel scores that are kept: 9 of sign and exponent, 12 of the fraction.
Scores that differ by less than 1 in 4,096 may count as equal. A histogram of these bits saves
memory for billions of pixels.
"""


class AnomalyMetrics:
    """AUROC of images and pixels, and recall and false alarms at the threshold in the answers."""

    def __init__(self, class_names: Sequence[str]):
        """`class_names`: normal images first, then kinds of defects."""
        self.class_names = tuple(class_names)
        self._pixels = np.zeros((2, 1 << KEPT_BITS), np.int64)
        self._scores: list[np.ndarray] = []
        self._verdicts: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []

    def update(
        self,
        predictions: Mapping[str, np.ndarray],
        targets: Mapping[str, np.ndarray],
        weight: np.ndarray,
    ) -> None:
        """Add a batch; images of weight 0 don't count.

        Args:
            predictions: "anomaly_score" and "anomaly_threshold" float [B], "is_anomalous" bool [B],
                "heat_map" float32 [B, H, W], negative beyond the edges of smaller images.
            targets: "label" int [B], 0 for normal images; "mask" uint8 [B, H, W], 0 for normal
                pixels, IGNORED where it is unknown.
            weight: float [B] of 0 and 1.
        """
        counts = np.asarray(weight) > 0
        heat, mask = np.asarray(predictions["heat_map"]), np.asarray(targets["mask"])
        # Heat maps and masks are padded, perhaps to different sizes.
        height, width = np.minimum(heat.shape[1:], mask.shape[1:])
        heat, mask = heat[counts, :height, :width], mask[counts, :height, :width]
        for row, chosen in enumerate((mask == 0, (mask > 0) & (mask != IGNORED))):
            keys = _keys(heat[chosen & (heat >= 0)])
            self._pixels[row] += np.bincount(keys, minlength=1 << KEPT_BITS)
        self._labels.append(np.asarray(targets["label"])[counts])
        self._scores.append(np.asarray(predictions["anomaly_score"], np.float64)[counts])
        # Before the first calibration there is no verdict.
        chosen = np.asarray(predictions["anomaly_threshold"])[counts] != UNCALIBRATED
        verdicts = np.asarray(predictions["is_anomalous"])[counts]
        self._verdicts.append(np.where(chosen, verdicts, np.nan))

    def result(self) -> dict[str, Any]:
        """Return the scores. Fractions are in [0, 1], nan if there is nothing to count. Log a
        warning if the AUROC of images is undefined.

        Returns:
            images and anomalies, their numbers; image_auroc and pixel_auroc; recall and
            false_alarms, the shares of anomalous and of normal images that are judged anomalous,
            nan if no threshold has been chosen yet; per_class: images, image_auroc against all
            normal images, and judged_anomalous of each class; image_scores: lists of the scores by
            class.
        """
        none = np.zeros(0)
        labels = np.concatenate([none.astype(int), *self._labels])
        scores = np.concatenate([none, *self._scores])
        verdicts = np.concatenate([none, *self._verdicts])
        normal, anomalous = labels == 0, labels > 0
        if len(labels) and (normal.all() or anomalous.all()):
            kind = "normal" if normal.all() else "anomalous"
            log.warning(
                "image_auroc is undefined: of %s, all are %s; both kinds are needed",
                counted(len(labels), "image"),
                kind,
            )
        by_class = [(name, labels == label) for label, name in enumerate(self.class_names)]
        return {
            "images": len(labels),
            "anomalies": int(anomalous.sum()),
            "image_auroc": auroc(scores[normal], scores[anomalous]),
            "pixel_auroc": auroc_of_counts(*self._pixels),
            "recall": _mean(verdicts[anomalous]),
            "false_alarms": _mean(verdicts[normal]),
            "per_class": {
                name: {
                    "images": int(is_class.sum()),
                    "image_auroc": auroc(scores[normal], scores[is_class & anomalous]),
                    "judged_anomalous": _mean(verdicts[is_class]),
                }
                for name, is_class in by_class
            },
            "image_scores": {name: scores[is_class].tolist() for name, is_class in by_class},
        }


def auroc(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """Return the probability that an anomalous score is above a normal score; ties count half. nan
    if there are no normal or no anomalous scores.
    """
    _, places = np.unique(np.concatenate([normal, anomalous]), return_inverse=True)
    size = int(places.max(initial=-1)) + 1
    return auroc_of_counts(
        np.bincount(places[: len(normal)], minlength=size),
        np.bincount(places[len(normal) :], minlength=size),
    )


def auroc_of_counts(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """Return the AUROC from histograms of normal and anomalous scores, int64 [N], ascending."""
    below = np.cumsum(normal) - normal / 2
    pairs = float(normal.sum()) * float(anomalous.sum())
    return float(share((below * anomalous).sum(), pairs))


def choose_threshold(
    normal: np.ndarray, anomalous: np.ndarray, false_alarms: float, margin: float
) -> float:
    """Choose the score above which an image is anomalous.

    Args:
        normal, anomalous: scores of validation images, float [N] and float [A], at least 0.
        false_alarms: if A is 0, the largest share of normal scores above the threshold.
        margin: if A is 0, the distance between the threshold and the highest normal score that is
            no false alarm, as a multiple of that score's distance from the median.

    Returns:
        The threshold, at least 0. With anomalous scores, it has the highest F1 and is in the middle
        of a gap between two scores, or between 0 and the lowest score; of several such gaps, the
        widest. UNCALIBRATED if N and A are 0.
    """
    if len(anomalous):
        return _best_f1(normal, anomalous)
    if not len(normal):
        return UNCALIBRATED
    ordered = np.sort(normal)
    highest = ordered[len(ordered) - 1 - int(false_alarms * len(ordered))]
    return float(highest + margin * (highest - np.median(ordered)))


def _best_f1(normal: np.ndarray, anomalous: np.ndarray) -> float:
    # The first edge is 0: with it, every image with a score above 0 is an anomaly.
    edges = np.unique(np.concatenate([[0.0], normal, anomalous]))
    if len(edges) == 1:
        return 0.0
    found = len(anomalous) - np.searchsorted(np.sort(anomalous), edges, "right")
    alarms = len(normal) - np.searchsorted(np.sort(normal), edges, "right")
    f1 = 2 * found / (found + alarms + len(anomalous))
    # The last edge is left out, because no anomaly is above the highest score.
    best = np.flatnonzero(f1[:-1] == f1[:-1].max())
    widest = best[np.argmax(edges[best + 1] - edges[best])]
    return float((edges[widest] + edges[widest + 1]) / 2)


def _keys(values: np.ndarray) -> np.ndarray:
    """Return the leading bits of nonnegative values, float32 [N], as integers in the same order."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return (bits >> (32 - KEPT_BITS)).astype(np.int64)


def _mean(values: np.ndarray) -> float:
    return float(share(values.sum(), len(values)))
