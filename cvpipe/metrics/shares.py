"""Fractions, means, and the shares of the classes among labels and among answers.

Dimensions: K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cvpipe.errors import counted

OF_LABELS, OF_ANSWERS = "label_share", "answer_share"


def share(part: Any, whole: Any) -> np.ndarray:
    """Divide element by element, float64; nan where `whole` is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(
        part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole != 0
    )


def mean_of_defined(values: np.ndarray) -> float:
    """Return the mean of the values that are not nan; nan if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def class_shares(labels: np.ndarray, answers: np.ndarray) -> list[dict[str, float]]:
    """Return "label_share" and "answer_share" of each class for a score's "per_class".

    Args:
        labels: int [K], number of images, objects or pixels labeled as each class.
        answers: int [K], number predicted as each class.

    Returns:
        K pairs of shares in [0, 1]; nan if there are no labels, or no answers.
    """
    pairs = zip(share(labels, labels.sum()), share(answers, answers.sum()), strict=True)
    return [{OF_LABELS: float(label), OF_ANSWERS: float(answer)} for label, answer in pairs]


def one_sided(scores: Mapping[str, Any]) -> str | None:
    """Return a warning if all answers have one class although the labels have several, or if there
    are labels but no answers.

    None if neither holds or the task has no such shares.
    """
    rows = [(name, row) for name, row in scores.get("per_class", {}).items() if OF_ANSWERS in row]
    labeled = [name for name, row in rows if row[OF_LABELS] > 0]
    answered = [(name, row[OF_LABELS]) for name, row in rows if row[OF_ANSWERS] > 0]
    if labeled and not answered:
        fact = f"there are no answers, although there are labels of {_some(labeled)}"
    elif len(labeled) > 1 and len(answered) == 1:
        [(name, label_share)] = answered
        fact = f"all answers are '{name}', although only {label_share:.1%} of the labels are"
    else:
        return None
    return (
        f"{fact}; if longer training does not help, find the reason with: cvpipe train"
        " PIPELINE.yaml --sanity"
    )


def _some(names: list[str]) -> str:
    left = len(names) - 3
    more = f" and {counted(left, 'more class', 'more classes')}" if left > 0 else ""
    return ", ".join(f"'{name}'" for name in names[:3]) + more
