"""Pascal VOC's average precision (Everingham et al. 2010, section 4.2).

Dimensions: D detections and O objects of all classes.
"""

from __future__ import annotations

import numpy as np

from cvpipe.metrics.detection_rows import Detections, GroundTruth, Pairs

IOU = 0.5


def voc_ap(detections: Detections, objects: GroundTruth, pairs: Pairs, classes: int) -> np.ndarray:
    """Return the average precision of every class at IoU 0.5, by the 11-point and the area rule.

    In order of decreasing score, every detection is assigned to the object of its class that it
    overlaps most. If their IoU is at least 0.5, the detection is ignored if the object is
    difficult, and otherwise correct if it is the first such detection of the object. All other
    detections are wrong. Box sizes are continuous; the devkit adds one pixel to widths and heights.

    Returns:
        float64 [2, classes]: the 11-point mean (until 2009) and the area under the curve (since
        2010); nan for classes without objects.
    """
    right, counts = _verdicts(detections, objects, pairs)
    scores = np.full((2, classes), np.nan)
    for label in range(classes):
        total = int(((objects.label == label) & ~objects.crowd).sum())
        if total:
            rows = np.flatnonzero((detections.label == label) & counts)
            rows = rows[np.argsort(-detections.score[rows], kind="stable")]
            scores[:, label] = average_precision(right[rows], total)
    return scores


def average_precision(right: np.ndarray, objects: int) -> tuple[float, float]:
    """Return the AP by the 11-point and by the area rule. `right`, bool [D], marks correct
    detections in order of decreasing score; `objects`, at least 1, is the number of objects.
    """
    hits = np.cumsum(right)
    recall = np.concatenate([[0], hits / objects])
    precision = np.concatenate([hits / np.arange(1, len(right) + 1), [0]])
    # The highest precision at this recall or above.
    best = np.maximum.accumulate(precision[::-1])[::-1]
    eleven = best[np.searchsorted(recall[1:], np.arange(11) / 10 - 1e-12)].mean()
    return float(eleven), float((np.diff(recall) * best[:-1]).sum())


def _verdicts(
    detections: Detections, objects: GroundTruth, pairs: Pairs
) -> tuple[np.ndarray, np.ndarray]:
    """Return two masks, bool [D]: correct detections, and detections that count.

    Detections whose best match is a difficult object do not count.
    """
    rows = np.flatnonzero(
        (detections.label[pairs.detection] == objects.label[pairs.object]) & (pairs.iou >= IOU)
    )
    # Select the best pair of each detection, then the best detection of each object. Ties go to the
    # earlier one.
    rows = rows[np.lexsort((pairs.object[rows], -pairs.iou[rows], pairs.detection[rows]))]
    rows = rows[np.unique(pairs.detection[rows], return_index=True)[1]]
    is_difficult = objects.crowd[pairs.object[rows]]
    counts = np.ones(len(detections.score), bool)
    counts[pairs.detection[rows[is_difficult]]] = False
    rows = rows[~is_difficult]
    rows = rows[
        np.lexsort(
            (pairs.detection[rows], -detections.score[pairs.detection[rows]], pairs.object[rows])
        )
    ]
    right = np.zeros(len(detections.score), bool)
    right[pairs.detection[rows[np.unique(pairs.object[rows], return_index=True)[1]]]] = True
    return right, counts
