"""Shares and means, and the share of each class among the answers beside that among the labels.

Dimensions: K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cvpipe.errors import counted

OF_LABELS, OF_ANSWERS = "label_share", "answer_share"


def share(part: Any, whole: Any) -> np.ndarray:
    """part / whole, float64, element by element; nan where the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(
        part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole != 0
    )


def mean_of_defined(values: np.ndarray) -> float:
    """The mean over what has a value, and isn't nan; nan where nothing has."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def class_shares(labels: np.ndarray, answers: np.ndarray) -> list[dict[str, float]]:
    """Return "label_share" and "answer_share" of each class for a score's "per_class".

    Args:
        labels: int [K], what is labeled as each class: images, objects or pixels.
        answers: int [K], what is answered to be of each class.

    Returns:
        K pairs of shares in [0, 1]; nan where nothing is labeled, or answered.
    """
    pairs = zip(share(labels, labels.sum()), share(answers, answers.sum()), strict=True)
    return [{OF_LABELS: float(label), OF_ANSWERS: float(answer)} for label, answer in pairs]


def one_sided(scores: Mapping[str, Any]) -> str | None:
    """Say that all answers are of one class although labels are of several, or that there is none
    although there are labels; None where neither is so, or the task has no such shares.
    """
    rows = [(name, own) for name, own in scores.get("per_class", {}).items() if OF_ANSWERS in own]
    labeled = [name for name, own in rows if own[OF_LABELS] > 0]
    answered = [(name, own[OF_LABELS]) for name, own in rows if own[OF_ANSWERS] > 0]
    if labeled and not answered:
        fact = f"nothing is answered, although there are labels of {_some(labeled)}"
    elif len(labeled) > 1 and len(answered) == 1:
        [(name, label_share)] = answered
        fact = f"all answers are '{name}', although only {label_share:.1%} of the labels are"
    else:
        return None
    return (
        f"{fact}; if training longer doesn't change that, look for the reason with: cvpipe train"
        " PIPELINE.yaml --sanity"
    )


def _some(names: list[str]) -> str:
    left = len(names) - 3
    more = f" and {counted(left, 'more class', 'more classes')}" if left > 0 else ""
    return ", ".join(f"'{name}'" for name in names[:3]) + more
