"""Groups of examples by a column of the data's files: each value, or ranges of many numbers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

EMPTY = "(empty)"
# A column with more different numbers is divided into ranges with about equal numbers of examples.
MOST_NUMBERS, RANGES = 12, 5
# In a column with more different texts, the rarest texts form one group.
MOST_TEXTS = 50


class Groups(NamedTuple):
    """The group of each example."""

    of_each: list[str]
    """The name of each example's group."""
    order: list[str]
    """All names, in the order in which they are shown."""


def group_values(values: Sequence[str]) -> Groups:
    """Group examples by their values. Empty values form the group EMPTY."""
    filled = [value for value in values if value]
    numbers = _numbers(filled)
    if numbers is None:
        groups = _of_texts(filled)
    elif len(np.unique(numbers)) > MOST_NUMBERS:
        groups = _of_ranges(numbers)
    else:
        position = dict(zip(filled, numbers.tolist(), strict=True))
        groups = Groups(filled, sorted(position, key=lambda value: (position[value], value)))
    if len(filled) == len(values):
        return groups
    rest = iter(groups.of_each)
    return Groups([next(rest) if value else EMPTY for value in values], [*groups.order, EMPTY])


def _numbers(values: Sequence[str]) -> np.ndarray | None:
    """Return values as float64 [n]; None unless all are finite numbers."""
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _of_texts(values: Sequence[str]) -> Groups:
    counts = Counter(values)
    if len(counts) <= MOST_TEXTS:
        return Groups(list(values), sorted(counts))
    kept = {value for value, _ in counts.most_common(MOST_TEXTS)}
    rest = f"({len(counts) - MOST_TEXTS:,} rarer values)"
    return Groups([value if value in kept else rest for value in values], [*sorted(kept), rest])


def _of_ranges(numbers: np.ndarray) -> Groups:
    """Divide numbers at their quantiles. A range includes its lower bound; the last includes both
    bounds.
    """
    bounds = np.unique(np.quantile(numbers, np.linspace(0, 1, RANGES + 1)))
    group = np.digitize(numbers, bounds[1:-1])
    names = [f"{low:.12g} to {high:.12g}" for low, high in itertools.pairwise(bounds.tolist())]
    return Groups([names[n] for n in group.tolist()], names)
