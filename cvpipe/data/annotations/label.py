"""One class per image.

An example has "label", int32 scalar, a position in the class names.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Self

import numpy as np
import tensorflow as tf

from cvpipe.data.annotations.annotation import Annotation, Tally
from cvpipe.data.annotations.columns import Columns
from cvpipe.data.example import Example, Reader
from cvpipe.data.facts import Facts
from cvpipe.data.graph import in_memory


# Compared by identity, because == of arrays returns an array.
@dataclasses.dataclass(frozen=True, eq=False)
class Label(Annotation):
    """The labels of all records."""

    labels: np.ndarray
    """int32 [R]; −1 for records of a class that was left out."""
    first_alone: bool = False
    """True if only images of the first class, such as normal images, are learned. The other classes
    have no training images.
    """

    keys = ("label",)
    unlearnable = "no image is of the first class"

    def digests(self, records: np.ndarray) -> list[str]:
        return [str(label) for label in self.labels[records].tolist()]

    def describe(self, record: int, read_record: Reader, facts: Facts) -> str:
        return facts.class_names[self.labels[record]]

    def read(self, record: tf.Tensor) -> Example:
        return {"label": tf.gather(self._labels, record)}

    @functools.cached_property
    def _labels(self) -> tf.Tensor:
        # Made outside the calling graph, because all graphs share this tensor.
        with tf.init_scope():
            return in_memory(self.labels)

    def counts(self, records: np.ndarray, num_classes: int) -> np.ndarray | None:
        if self.first_alone:
            # The other classes have no training images, which must not be reported as a mistake.
            return None
        return np.bincount(self.labels[records], minlength=num_classes)

    def learnable(self, records: np.ndarray, annotations: Sequence[Annotation]) -> int | None:
        return int((self.labels[records] == 0).sum()) if self.first_alone else None

    def tally(self, records: np.ndarray, facts: Facts) -> Tally:
        if self.first_alone:
            return Label(self.labels).tally(records, facts)
        return super().tally(records, facts)

    def strata(self, records: np.ndarray) -> np.ndarray:
        return self.labels[records]

    def relabel(self, position: np.ndarray) -> Label:
        # The appended −1 is the result for labels that are −1 already.
        labels = np.append(position, -1).astype(np.int32)[self.labels]
        return Label(labels, self.first_alone)

    def stay(self, records: np.ndarray) -> np.ndarray:
        return self.labels[records] >= 0

    @classmethod
    def join(cls, parts: Sequence[Self], sizes: Sequence[int]) -> Label:
        return Label(
            np.concatenate([part.labels[:size] for part, size in zip(parts, sizes, strict=True)]),
            all(part.first_alone for part in parts),
        )

    @classmethod
    def from_columns(cls, columns: Columns, facts: Facts) -> Label:
        return Label(columns.records["label"])
