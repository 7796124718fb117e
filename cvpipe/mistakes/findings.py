"""Findings of several tasks: confused classes, thresholds, and shares of found objects by size.

Dimensions: K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cvpipe.documents import Table
from cvpipe.errors import counted
from cvpipe.markdown import number
from cvpipe.metrics.shares import share
from cvpipe.metrics.thresholds import Threshold
from cvpipe.mistakes import Finding
from cvpipe.pictures.drawing.charts import confusion_matrix

MOST_PAIRS = 20


def confusion(counts: np.ndarray, names: Sequence[str], what: str) -> Finding:
    """Return the classes that are taken for others, most frequent pairs first.

    Args:
        counts: int [K, K], a row per true class, a column per answer.
        names: K names.
        what: plural noun for the counted items.
    """
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")
    rows, columns = np.unravel_index(order[: np.count_nonzero(wrong)], wrong.shape)
    of_class = share(wrong, counts.sum(1, keepdims=True))
    pairs = [
        [names[row], names[column], f"{wrong[row, column]:,}", f"{of_class[row, column]:.1%}"]
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    text = f"{counted(int(wrong.sum()), what[:-1])} of {counts.sum():,} have the wrong class."
    if len(pairs) > MOST_PAIRS:
        text += f" The {MOST_PAIRS} most frequent pairs of {len(pairs)}:"
    head = ["is", "answered", what, "share of the class"]
    table = Table(head, pairs[:MOST_PAIRS]) if pairs else None
    return Finding("Confused classes", text, table, confusion_matrix(counts, names))


def thresholds(names: Sequence[str], found: Sequence[Threshold], text: str) -> Finding:
    """Return the best threshold of each class."""
    rows = [[name, *map(number, best)] for name, best in zip(names, found, strict=True)]
    return Finding("Thresholds with the best F1", text, Table(["class", *Threshold._fields], rows))


def by_size(
    sizes: np.ndarray, bounds: Sequence[float], labels: Sequence[str], found: np.ndarray, text: str
) -> Finding:
    """Return the share of objects that are found, by their size.

    Args:
        sizes: float [n], the size of each object.
        bounds: ascending sizes between groups; an object of exactly this size is in the upper
            group.
        labels: a name for each group.
        found: float [n] in [0, 1], the share of each object that is found.
    """
    group = np.digitize(sizes, bounds)
    rows = [
        [name, f"{int((group == n).sum()):,}", number(float(found[group == n].mean()))]
        for n, name in enumerate(labels)
        if (group == n).any()
    ]
    return Finding("By size", text, Table(["size", "objects", "found"], rows))


def count_group(count: int) -> str:
    """Return the group of a number of objects: 0, 1, 2–3, 4–7, 8–15 and so on."""
    low = 1 << (max(count, 1).bit_length() - 1)
    return str(count) if count < 2 else f"{low}–{2 * low - 1}"


def share_group(part: float) -> str:
    """Return the group of a share of an image."""
    for bound in (0.01, 0.05, 0.2, 0.5):
        if part < bound:
            return f"below {bound:.0%}"
    return "50% and more"
