"""Annotations of many records as arrays, as packed data stores them.

Dimensions: R records, T objects in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Columns(NamedTuple):
    """Arrays by the name of their tensor in an example."""

    records: Mapping[str, np.ndarray]
    """[R, …] each: tensors of one shape in all records."""
    objects: Mapping[str, np.ndarray]
    """[T, …] each: tensors of a kind's `per_object`, one record after the other."""
    starts: np.ndarray
    """int64 [R + 1]: the objects of record r are starts[r] … starts[r + 1] − 1."""


def stack_columns(examples: Sequence[Mapping[str, np.ndarray]], per_object: set[str]) -> Columns:
    """Return the columns of one or more examples, which all have the same tensors.

    Args:
        examples: the tensors of each example by name.
        per_object: names of tensors whose first dimension is the number of objects.
    """
    names = list(examples[0])
    counted = [name for name in names if name in per_object]
    counts = [len(example[counted[0]]) if counted else 0 for example in examples]
    return Columns(
        {
            name: np.stack([example[name] for example in examples])
            for name in names
            if name not in per_object
        },
        {name: np.concatenate([example[name] for example in examples]) for name in counted},
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def join_columns(parts: Sequence[Columns]) -> Columns:
    """Concatenate the columns of one or more parts."""
    ends = np.cumsum([0, *(int(part.starts[-1]) for part in parts)])
    starts = [part.starts[1:] + end for part, end in zip(parts, ends.tolist(), strict=False)]
    return Columns(
        {name: np.concatenate([part.records[name] for part in parts]) for name in parts[0].records},
        {name: np.concatenate([part.objects[name] for part in parts]) for name in parts[0].objects},
        np.concatenate([[0], *starts]).astype(np.int64),
    )
