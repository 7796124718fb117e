"""What every data format becomes: labelled images that can be read by index."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

# What a record holds by name; images are "bytes" (scalar string, as in the file) or "image" (uint8 [H, W, C]).
Example = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Source:
    """One split of a data set, readable in any order.

    Dimensions: N examples, R records of the underlying files; a split is a choice of records.
    """

    classes: tuple[str, ...]
    """Class names; a label is a position in them."""
    labels: np.ndarray
    """int32 [N]."""
    read_record: Callable[[tf.Tensor], Example]
    """Graph code: a record number (int64 scalar) to its image, as "bytes" or "image". May fail on a bad file."""
    name_record: Callable[[int], str]
    """A record number to a name: a file's path as seen from `root`, or the position in an archive."""
    root: str
    """Where the data lies: what every name begins with."""
    records: np.ndarray
    """int64 [N]: the record of each example."""

    def __len__(self) -> int:
        return len(self.records)

    def read(self, index: tf.Tensor) -> Example:
        """Graph code: the example at `index` (int64 scalar, below N): its image and "label" (int32 scalar)."""
        record = tf.gather(self.records, index)
        return {**self.read_record(record), "label": tf.gather(self.labels, index)}

    def name(self, index: int) -> str:
        """What a person would look for to see the example at `index`."""
        return self.root + self.name_record(int(self.records[index]))

    def names(self) -> list[str]:
        """All names as seen from `root`: the same wherever the data lies."""
        return [self.name_record(record) for record in self.records.tolist()]

    def digest(self) -> str:
        """A fingerprint of which examples these are, in which order, with which labels; contents are not read."""
        lines = "\n".join(f"{label} {name}" for label, name in zip(self.labels, self.names()))
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def subset(self, indices: np.ndarray) -> Source:
        """The examples at `indices` (int [M]), in that order."""
        return dataclasses.replace(self, labels=self.labels[indices], records=self.records[indices])


def whole(
    classes: tuple[str, ...],
    labels: np.ndarray,
    read_record: Callable[[tf.Tensor], Example],
    name_record: Callable[[int], str],
    root: str = "",
) -> Source:
    """All records of a format as one source; `labels` is int32 [R]."""
    return Source(classes, labels.astype(np.int32), read_record, name_record, root, np.arange(len(labels), dtype=np.int64))


def in_memory(images: np.ndarray) -> tf.Tensor:
    """Images as a tensor in the host's memory, once: a NumPy array would be copied into every graph that reads it."""
    with tf.device("CPU:0"):
        return tf.constant(images)
