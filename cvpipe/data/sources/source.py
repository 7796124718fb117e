"""What every data format becomes: labelled images that can be read by index."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

# What a record holds by name; images are "bytes" (scalar string, as in the file) or "image" (uint8 [H, W, C]).
Example = dict[str, tf.Tensor]
# Graph code: a record number (int64 scalar) to what the record holds.
Reader = Callable[[tf.Tensor], Example]


# Two are the same only if they are one: arrays have no equality of use here, and one can be a key.
@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """One split of a data set, readable in any order.

    Dimensions: N examples, R records of the underlying files; a split is a choice of records.
    """

    classes: tuple[str, ...]
    """Class names; a label is a position in them."""
    labels: np.ndarray
    """int32 [N]."""
    read_record: Reader
    """Graph code: a record number (int64 scalar) to its image, as "bytes" or "image". May fail on a bad file."""
    name_record: Callable[[int], str]
    """A record number to a name, the same wherever the data lies: a file's path in the data's folder, or a position in an archive."""
    locate_record: Callable[[int], str]
    """A record number to what a person would look for: the name, and where the data lies."""
    records: np.ndarray
    """int64 [N]: the record of each example."""

    def __len__(self) -> int:
        return len(self.records)

    def read(self, index: tf.Tensor) -> Example:
        """Graph code: the example at `index` (int64 scalar, below N): its image and "label" (int32 scalar)."""
        records, labels = self._tensors
        return {**self.read_record(tf.gather(records, index)), "label": tf.gather(labels, index)}

    @functools.cached_property
    def _tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        # Outside the graph that asks: these tensors serve all graphs.
        with tf.init_scope():
            return in_memory(self.records), in_memory(self.labels)

    def name(self, index: int) -> str:
        """What a person would look for to see the example at `index`."""
        return self.locate_record(int(self.records[index]))

    def names(self) -> list[str]:
        """All names, the same wherever the data lies."""
        return [self.name_record(record) for record in self.records.tolist()]

    def digest(self) -> str:
        """A fingerprint of which examples these are, in which order, with which labels; contents are not read."""
        lines = "\n".join(f"{label} {name}" for label, name in zip(self.labels, self.names()))
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def subset(self, indices: np.ndarray) -> Source:
        """The examples at `indices` (int [M]), in that order."""
        return dataclasses.replace(self, labels=self.labels[indices], records=self.records[indices])

    def relabel(self, classes: tuple[str, ...]) -> Source:
        """The examples of `classes`, labelled by their positions there; those of other classes are left out."""
        position = {name: label for label, name in enumerate(classes)}
        labels = np.array([position.get(name, -1) for name in self.classes], np.int32)[self.labels]
        return dataclasses.replace(self, classes=classes, labels=labels).subset(np.flatnonzero(labels >= 0))


def whole(
    classes: tuple[str, ...],
    labels: np.ndarray,
    read_record: Reader,
    name_record: Callable[[int], str],
    locate: Callable[[str], str] = str,
) -> Source:
    """All records of a format as one source; `labels` is int32 [R], `locate` says of a name where to look for it."""
    records = np.arange(len(labels), dtype=np.int64)
    return Source(classes, labels.astype(np.int32), read_record, name_record, lambda record: locate(name_record(record)), records)


def in_memory(values: np.ndarray | list[bytes]) -> tf.Tensor:
    """Values as a tensor in the host's memory, once: a NumPy array would be copied into every graph that reads it."""
    with tf.device("CPU:0"):
        return tf.constant(values)


def read_in_python(read: Callable[[int], bytes], record: tf.Tensor) -> tf.Tensor:
    """Graph code that calls Python: a scalar string, what `read` returns for a record number.

    A DataError raised in `read` says what is wrong with the record; in a graph it surfaces as tf.errors.UnknownError. `read`
    must give the same for the same number, and is called from many threads.
    """
    # Were it taken for stateful, TensorFlow would read one record at a time where it has to be deterministic.
    return tf.ensure_shape(tf.numpy_function(lambda number: read(int(number)), [record], tf.string, stateful=False), [])


def among(wanted: str, known: Iterable[str], most: int = 20) -> str:
    """The end of an error about a name that isn't known: the nearest one, and which there are."""
    names = list(known)
    near = difflib.get_close_matches(wanted, names, n=1)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (f"did you mean '{near[0]}'? " if near else "") + f"known: {', '.join(names[:most])}{more}"
