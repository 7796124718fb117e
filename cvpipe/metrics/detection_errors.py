"""Error types of detections, after TIDE (Bolya et al. 2020, section 2.2).

Dimensions: D detections, O objects and P pairs of all images.
"""

from __future__ import annotations

import numpy as np

from cvpipe.metrics.detection_rows import LEAST_OVERLAP, Detections, GroundTruth, Pairs

FOREGROUND = 0.5
"""t_f: the IoU from which a detection finds an object. t_b, below which it finds nothing, is
`LEAST_OVERLAP`.
"""


def count_errors(
    detections: Detections, objects: GroundTruth, pairs: Pairs, score_threshold: float
) -> dict[str, int]:
    """Count correct detections, wrong detections by type of error, and missed objects.

    Only detections with at least `score_threshold` count. In order of decreasing score, each is
        matched to the unmatched object of its class with the largest IoU of at least 0.5, and is
        then correct. Unmatched detections with at least half of their area in a crowd region of
        their class are ignored. The rest are errors of the first type that applies: location: the
        IoU with an object of their class is in [0.1, 0.5); class: the IoU with an object of another
        class is at least 0.5; duplicate: the IoU with an object of their class that a better
        detection matched is at least 0.5; background: the IoU with every object is below 0.1; both:
        the IoU with an object of another class is in [0.1, 0.5).

    Returns:
        correct, location, class, duplicate, background, both: numbers of detections. missed: number
        of objects, without crowds, that are neither matched nor the best overlap of a detection
        with a location or class error.
    """
    is_counted = detections.score >= score_threshold
    kept = is_counted[pairs.detection]
    pairs = Pairs(*(column[kept] for column in pairs))
    same = detections.label[pairs.detection] == objects.label[pairs.object]
    crowd = objects.crowd[pairs.object]
    is_taken, is_right = _match(
        detections, objects, pairs, np.flatnonzero(same & ~crowd & (pairs.iou >= FOREGROUND))
    )
    ignored = np.zeros(len(is_counted), bool)
    ignored[pairs.detection[same & crowd & (pairs.inside >= FOREGROUND)]] = True
    own, own_object = _best(pairs, same & ~crowd, len(is_counted))
    other, other_object = _best(pairs, ~same & ~crowd, len(is_counted))
    left = is_counted & ~is_right & ~ignored
    counts = {"correct": int(is_right.sum())}
    kinds = {
        "location": (own >= LEAST_OVERLAP) & (own < FOREGROUND),
        "class": other >= FOREGROUND,
        "duplicate": own >= FOREGROUND,
        "background": (own < LEAST_OVERLAP) & (other < LEAST_OVERLAP),
        "both": np.ones(len(left), bool),
    }
    for name, holds in kinds.items():
        counts[name] = int((left & holds).sum())
        if name in ("location", "class"):
            blamed = own_object if name == "location" else other_object
            is_taken[blamed[left & holds]] = True
        left &= ~holds
    return {**counts, "missed": int((~is_taken & ~objects.crowd).sum())}


def _match(
    detections: Detections, objects: GroundTruth, pairs: Pairs, candidates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Match detections to objects greedily among the candidate pairs. Returns bool [O], the matched
    objects, and bool [D], the matched detections.
    """
    of = pairs.detection[candidates]
    order = candidates[
        np.lexsort((pairs.object[candidates], -pairs.iou[candidates], of, -detections.score[of]))
    ]
    is_taken, is_right = np.zeros(len(objects.label), bool), np.zeros(len(detections.score), bool)
    for detection, truth in zip(
        pairs.detection[order].tolist(), pairs.object[order].tolist(), strict=True
    ):
        if not is_right[detection] and not is_taken[truth]:
            is_right[detection] = is_taken[truth] = True
    return is_taken, is_right


def _best(pairs: Pairs, allowed: np.ndarray, detections: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest IoU of every detection among the allowed pairs, float64 [D], 0 for none,
    and its object, int64 [D].
    """
    rows = np.flatnonzero(allowed)
    rows = rows[np.lexsort((pairs.object[rows], -pairs.iou[rows], pairs.detection[rows]))]
    of, first = np.unique(pairs.detection[rows], return_index=True)
    overlap, truth = np.zeros(detections), np.zeros(detections, np.int64)
    overlap[of], truth[of] = pairs.iou[rows[first]], pairs.object[rows[first]]
    return overlap, truth
