"""Error types of detections, after TIDE (Bolya et al. 2020, section 2.2).

Dimensions: D detections, O objects and P pairs of all images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cvpipe.metrics.detection_rows import LEAST_OVERLAP, Detections, GroundTruth, Pairs
from cvpipe.metrics.thresholds import Threshold, best_threshold

FOREGROUND = 0.5
"""t_f: the minimum IoU at which a detection finds an object. `LEAST_OVERLAP` is t_b: a detection
with a lower IoU counts as background.
"""


KINDS = ("correct", "location", "class", "duplicate", "background", "both")
"""Kinds of detections: correct ones, and wrong ones by type of error."""


class Judged(NamedTuple):
    """The kind of each detection, and the objects that no detection finds."""

    kind: np.ndarray
    """int64 [D]: position in `KINDS`; −1 for detections that don't count."""
    object: np.ndarray
    """int64 [D]: the row of the object that a correct detection finds, or that an error of location
    or class overlaps most; −1 for none.
    """
    missed: np.ndarray
    """bool [O]: True for missed objects."""


def judge(
    detections: Detections, objects: GroundTruth, pairs: Pairs, is_counted: np.ndarray
) -> Judged:
    """Classify detections as correct, or wrong by type of error, and find missed objects.

    In order of decreasing score, each detection is matched to the unmatched object of its class
    with the largest IoU of at least 0.5, and is then correct. Unmatched detections with at least
    half of their area in a crowd region of their class don't count. The rest are errors of the
    first type that applies: location: the IoU with an object of their class is in [0.1, 0.5);
    class: the IoU with an object of another class is at least 0.5; duplicate: the IoU with an
    object of their class that a better detection matched is at least 0.5; background: the IoU with
    every object is below 0.1; both: the IoU with an object of another class is in [0.1, 0.5).
    Objects, without crowds, are missed if they are neither matched nor the best overlap of an error
    of location or class.

    Args:
        is_counted: bool [D], the detections that count.
    """
    kept = is_counted[pairs.detection]
    pairs = Pairs(*(column[kept] for column in pairs))
    same = detections.label[pairs.detection] == objects.label[pairs.object]
    crowd = objects.crowd[pairs.object]
    taken, found = _match(
        detections, objects, pairs, np.flatnonzero(same & ~crowd & (pairs.iou >= FOREGROUND))
    )
    ignored = np.zeros(len(is_counted), bool)
    ignored[pairs.detection[same & crowd & (pairs.inside >= FOREGROUND)]] = True
    same_iou, same_object = _best(pairs, same & ~crowd, len(is_counted))
    other_iou, other_object = _best(pairs, ~same & ~crowd, len(is_counted))
    kind = np.where(found >= 0, 0, -1)
    left = is_counted & (found < 0) & ~ignored
    holds = {
        "location": (same_iou >= LEAST_OVERLAP) & (same_iou < FOREGROUND),
        "class": other_iou >= FOREGROUND,
        "duplicate": same_iou >= FOREGROUND,
        "background": (same_iou < LEAST_OVERLAP) & (other_iou < LEAST_OVERLAP),
        "both": np.ones(len(left), bool),
    }
    for number, name in enumerate(KINDS[1:], 1):
        is_kind = left & holds[name]
        kind[is_kind] = number
        if name in ("location", "class"):
            blamed = same_object if name == "location" else other_object
            found[is_kind] = blamed[is_kind]
            taken[blamed[is_kind]] = True
        left &= ~is_kind
    return Judged(kind, found, ~taken & ~objects.crowd)


def count_errors(
    detections: Detections, objects: GroundTruth, pairs: Pairs, score_threshold: float
) -> dict[str, int]:
    """Count the detections of each kind with at least `score_threshold`, and missed objects.

    Returns:
        correct, location, class, duplicate, background, both: numbers of detections as `judge`
        classifies them. missed: number of objects.
    """
    judged = judge(detections, objects, pairs, detections.score >= score_threshold)
    counts = np.bincount(judged.kind[judged.kind >= 0], minlength=len(KINDS))
    return {**dict(zip(KINDS, counts.tolist(), strict=True)), "missed": int(judged.missed.sum())}


def best_thresholds(
    detections: Detections, objects: GroundTruth, pairs: Pairs, classes: int
) -> list[Threshold]:
    """Return the score threshold of each class with the best F1, at an IoU of 0.5; detections in
    crowd regions don't count.
    """
    # Matching is in order of decreasing score, so leaving out low scores changes no other match.
    judged = judge(detections, objects, pairs, np.ones(len(detections.score), bool))
    totals = np.bincount(objects.label[~objects.crowd], minlength=classes)
    found = []
    for label in range(classes):
        of_class = (detections.label == label) & (judged.kind >= 0)
        is_right = judged.kind[of_class] == 0
        found.append(best_threshold(detections.score[of_class], is_right, int(totals[label])))
    return found


def _match(
    detections: Detections, objects: GroundTruth, pairs: Pairs, candidates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Match detections to objects greedily among the candidate pairs. Returns bool [O], the matched
    objects, and int64 [D], the object of each detection, −1 for none.
    """
    detection_of = pairs.detection[candidates]
    order = candidates[
        np.lexsort(
            (
                pairs.object[candidates],
                -pairs.iou[candidates],
                detection_of,
                -detections.score[detection_of],
            )
        )
    ]
    taken, found = np.zeros(len(objects.label), bool), np.full(len(detections.score), -1)
    for detection, truth in zip(
        pairs.detection[order].tolist(), pairs.object[order].tolist(), strict=True
    ):
        if found[detection] < 0 and not taken[truth]:
            found[detection], taken[truth] = truth, True
    return taken, found


def _best(pairs: Pairs, allowed: np.ndarray, detections: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest IoU of every detection among the allowed pairs, float64 [D], 0 for none,
    and its object, int64 [D].
    """
    rows = np.flatnonzero(allowed)
    rows = rows[np.lexsort((pairs.object[rows], -pairs.iou[rows], pairs.detection[rows]))]
    with_pair, first = np.unique(pairs.detection[rows], return_index=True)
    overlap, truth = np.zeros(detections), np.zeros(detections, np.int64)
    overlap[with_pair], truth[with_pair] = pairs.iou[rows[first]], pairs.object[rows[first]]
    return overlap, truth
