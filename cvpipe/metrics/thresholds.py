"""Confidence thresholds with the best F1.

Dimensions: D answers of one class.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NAN = float("nan")


class Threshold(NamedTuple):
    """The best threshold of a class, and its scores there."""

    threshold: float
    """Answers of this confidence or more are accepted; nan if no answer is right."""
    f1: float
    precision: float
    recall: float


def best_threshold(scores: np.ndarray, is_right: np.ndarray, objects: int) -> Threshold:
    """Return the threshold with the highest F1; of several, the highest.

    It lies halfway between two confidences, so that rounding moves no answer across it.

    Args:
        scores: float [D], the confidence of each answer in [0, 1].
        is_right: bool [D], True for answers that find an object; each object is found at most once.
        objects: number of objects to be found; without any, everything is nan.
    """
    if objects == 0:
        return Threshold(NAN, NAN, NAN, NAN)
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order].astype(np.float64), np.cumsum(is_right[order])
    if not len(hits) or hits[-1] == 0:
        return Threshold(NAN, 0.0, NAN, 0.0)
    accepted = np.arange(1, len(ranked) + 1)
    # Answers of the same confidence are accepted together.
    is_last = np.append(ranked[1:] < ranked[:-1], True)
    f1 = np.where(is_last, 2 * hits / (accepted + objects), -1.0)
    best = int(f1.argmax())
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return Threshold(
        float((ranked[best] + below) / 2),
        float(f1[best]),
        float(hits[best] / accepted[best]),
        float(hits[best] / objects),
    )
