"""YOLO's anchors: typical sizes of boxes, found by k-means (Redmon and Farhadi 2016, section 2,
"Dimension Clusters").

Dimensions: n boxes, k anchors.
"""

from __future__ import annotations

import numpy as np

from cvpipe.errors import DataError

LONGEST_SEARCH = 300
"""Maximum number of k-means iterations per restart."""


def find_anchors(
    sizes: np.ndarray, k: int, seed: int = 0, restarts: int = 10
) -> tuple[np.ndarray, float]:
    """Cluster box sizes by k-means with the distance 1 − IoU, where all boxes are centered at one
    point.

    Args:
        sizes: float [n, 2], heights and widths as fractions of the image; empty boxes are ignored.
        k: number of anchors, at least 1.
        seed: the same seed gives the same anchors.
        restarts: number of runs from different k-means++ starts (Arthur and Vassilvitskii 2007);
            the best result is returned.

    Returns:
        float32 [k, 2], heights and widths in order of increasing area, and the mean IoU of the
        boxes with their best anchors.

    Raises:
        DataError: there are fewer than k different sizes.
    """
    sizes = np.asarray(sizes, np.float64).reshape(-1, 2)
    sizes = sizes[(sizes > 0).all(1)]
    different = len(np.unique(sizes, axis=0))
    if different < k:
        raise DataError(
            f"{k} anchors were asked for, but the boxes have only {different} different sizes: ask"
            " for fewer anchors."
        )
    random = np.random.default_rng(seed)
    found = [_search(sizes, _start(sizes, k, random)) for _ in range(restarts)]
    anchors, fit = max(found, key=lambda pair: pair[1])
    return anchors[np.lexsort((anchors[:, 0], anchors.prod(1)))].astype(np.float32), fit


def rounded_anchors(anchors: np.ndarray, digits: int) -> list[list[float]]:
    """Return anchors [k, 2] with this number of significant digits, so that small ones are exact,
    too.
    """
    return [[float(f"{side:.{digits}g}") for side in anchor] for anchor in anchors.tolist()]


def size_iou(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Return the IoU of every size [n, 2] with every anchor [k, 2], concentric: float64 [n, k]."""
    sizes, anchors = np.asarray(sizes, np.float64), np.asarray(anchors, np.float64)
    shared = np.minimum(sizes[:, :1], anchors[:, 0]) * np.minimum(sizes[:, 1:], anchors[:, 1])
    return shared / (sizes.prod(1)[:, np.newaxis] + anchors.prod(1) - shared)


def _start(sizes: np.ndarray, k: int, random: np.random.Generator) -> np.ndarray:
    """Draw k initial anchors [k, 2] by k-means++, with probability proportional to the distance
    from the anchors drawn before.
    """
    chosen = [sizes[random.integers(len(sizes))]]
    while len(chosen) < k:
        distance = 1 - size_iou(sizes, np.array(chosen)).max(1)
        # Rounding errors must not let a size be drawn twice: one of its anchors would get no boxes.
        distance = np.where(distance > 1e-12, distance, 0)
        if not distance.any():
            break
        chosen.append(sizes[random.choice(len(sizes), p=distance / distance.sum())])
    return np.array(chosen + chosen[:1] * (k - len(chosen)))


def _search(sizes: np.ndarray, anchors: np.ndarray) -> tuple[np.ndarray, float]:
    """Run k-means from these anchors. Return the best anchors and their mean IoU.

    Cluster means do not necessarily reduce the distance 1 − IoU, so the last iteration may not be
    the best.
    """
    best, best_fit, before = anchors, -1.0, None
    for _ in range(LONGEST_SEARCH):
        overlap = size_iou(sizes, anchors)
        nearest = overlap.argmax(1)
        fit = float(overlap.max(1).mean())
        if fit > best_fit:
            best, best_fit = anchors, fit
        if before is not None and (nearest == before).all():
            break
        before = nearest
        counts = np.bincount(nearest, minlength=len(anchors))[:, np.newaxis]
        sums = np.stack(
            [np.bincount(nearest, sizes[:, axis], len(anchors)) for axis in (0, 1)], axis=1
        )
        anchors = np.where(counts > 0, sums / np.maximum(counts, 1), anchors)
    return best, best_fit
