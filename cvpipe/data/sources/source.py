"""The common interface of all data formats: annotated images that are read by index."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import tensorflow as tf

from cvpipe.data.annotations.annotation import Annotation
from cvpipe.data.example import Example, Reader
from cvpipe.data.facts import Facts
from cvpipe.data.graph import in_memory
from cvpipe.data.statistics import evenly_spaced
from cvpipe.errors import DataError
from cvpipe.user_paths import same_form

Kind = TypeVar("Kind", bound=Annotation)
ReadColumn = Callable[[str, str], Sequence[str]]
"""Maps a column's name to its value for each record, "" where there is none. The second argument is
the key or option that names the column. Raises DataError, with that key, for an unknown column.
"""


@dataclasses.dataclass(frozen=True)
class ReadAhead:
    """Settings for reading records in advance from slow storage."""

    block: int
    """Number of neighboring records that are read together."""
    examples: int
    """Number of examples that are announced in advance."""
    announce: Callable[[np.ndarray], None]
    """Announces records, int64 [n], that will be read soon, and returns at once. It is called from
    many threads, and doesn't change the result of `read_record`.
    """


# Compared and hashed by identity, because arrays have no useful equality.
@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """One split of a data set, readable in any order.

    Dimensions: N examples, R records of the underlying files. Examples are a selection of records.
    """

    facts: Facts
    """Names of classes and keypoints."""
    annotations: tuple[Annotation, ...]
    """Annotations of different kinds, each for all R records."""
    read_record: Reader
    """Graph code: maps a record number (int64 scalar) to its image, as "bytes" or "image", and
    to annotations that are read with the image. May fail on a bad file.
    """
    name_record: Callable[[int], str]
    """Maps a record number to a name that doesn't depend on the location of the data: a path in
    the data's folder, or a position in an archive.
    """
    locate_record: Callable[[int], str]
    """Maps a record number to the full path, for messages."""
    records: np.ndarray
    """int64 [N]: the record of each example."""
    ahead: ReadAhead | None = None
    """None if records are read one at a time."""
    known_digests: np.ndarray | None = None
    """uint64 [R]: `digests` of the records, if they are known already."""
    read_column: ReadColumn | None = None
    """Reads further columns of the files, for R records; None if the format has none."""

    def __len__(self) -> int:
        return len(self.records)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is an index into them."""
        return self.facts.class_names

    @property
    def has_places(self) -> bool:
        """Return True if an annotation has positions in the image, such as boxes."""
        return any(annotation.placed for annotation in self.annotations)

    def annotation(self, kind: type[Kind]) -> Kind:
        """Return the source's annotation of a kind; raises LookupError if there is none."""
        for annotation in self.annotations:
            if isinstance(annotation, kind):
                return annotation
        raise LookupError(f"the source has no {kind.__name__}")

    def read(self, index: tf.Tensor) -> Example:
        """Return the example at `index` (int64 scalar, below N). Graph code.

        It has the image, as "bytes" or "image", and the entries of every annotation as in the
        files. They aren't rotated upright yet, nor checked against the image.
        """
        return {**self.read_record(tf.gather(self._records, index)), **self.read_held(index)}

    def read_held(self, index: tf.Tensor) -> Example:
        """Return the entries of the example at `index` that are in memory. Graph code; doesn't
        fail.
        """
        record = tf.gather(self._records, index)
        held: Example = {}
        for annotation in self.annotations:
            held |= annotation.read(record)
        return held

    def announce(self, indices: np.ndarray) -> None:
        """Announce examples that will be read soon, int64 [n], if the source reads ahead."""
        if self.ahead:
            self.ahead.announce(self.records[indices])

    @functools.cached_property
    def by_record(self) -> tf.Tensor | None:
        """Positions of the examples in the order of their records, int64 [N]; None if they are in
        that order, or if records aren't read in blocks.
        """
        if self.ahead is None or self.ahead.block == 1 or bool(np.all(np.diff(self.records) > 0)):
            return None
        with tf.init_scope():
            return in_memory(np.argsort(self.records, kind="stable"))

    @functools.cached_property
    def _records(self) -> tf.Tensor:
        # Made outside the calling graph, because all graphs share this tensor.
        with tf.init_scope():
            return in_memory(self.records)

    def name(self, index: int) -> str:
        """Return the full path of the example at `index`, for messages."""
        return self.locate_record(int(self.records[index]))

    def column(self, name: str, key: str) -> list[str]:
        """Return the value of each example in a column of the files, such as the camera; "" where
        there is none. `key` is the key or option that names the column, for messages.

        Raises:
            DataError: there is no such column.
        """
        if self.read_column is None:
            raise DataError(
                f"{key}: no column '{name}': this format has only images and annotations."
                " Tables (kind: csv, box_csv, keypoint_csv, parquet), COCO's JSON, TFRecords and"
                " WebDataset have columns"
            )
        values = self.read_column(name, key)
        return [values[record] for record in self.records.tolist()]

    def names(self) -> list[str]:
        """Return all names in a normalized form of Unicode, because archives and folders may write
        the same name in different forms.
        """
        return [same_form(self.name_record(record)) for record in self.records.tolist()]

    @functools.cached_property
    def digests(self) -> np.ndarray:
        """Return a fingerprint of each example's name and annotations: uint64 [N].

        It doesn't depend on images, nor on annotations that are read with them.
        """
        if self.known_digests is not None:
            return self.known_digests[self.records]
        columns = [annotation.digests(self.records) for annotation in self.annotations]
        rows = (" ".join(row) for row in zip(*columns, self.names(), strict=True))
        encoded = (row.encode("utf-8", "surrogateescape") for row in rows)
        each = [hashlib.blake2b(row, digest_size=8).digest() for row in encoded]
        return np.frombuffer(b"".join(each), "<u8")

    def digest(self) -> str:
        """Return a fingerprint of the examples and their order, made from `digests`."""
        return hashlib.sha256(self.digests.tobytes()).hexdigest()[:16]

    def describe(self, index: int) -> str:
        """Describe an example's annotations in a few words."""
        record = int(self.records[index])
        return "; ".join(
            annotation.describe(record, self.read_record, self.facts)
            for annotation in self.annotations
        )

    def counts(self) -> np.ndarray:
        """Count the examples or objects of each class: int64 [K], by the first annotation that
        knows the counts without reading records; zeros if none does.
        """
        for annotation in self.annotations:
            counts = annotation.counts(self.records, len(self.classes))
            if counts is not None:
                return counts
        return np.zeros(len(self.classes), np.int64)

    def strata(self) -> np.ndarray:
        """Return the stratum of each example, int [N]. Each stratum is split and limited
        separately.
        """
        numbers = [annotation.strata(self.records) for annotation in self.annotations]
        if len(numbers) == 1:
            return numbers[0]
        return np.unique(np.stack(numbers, 1), axis=0, return_inverse=True)[1].reshape(-1)

    def subset(self, indices: np.ndarray) -> Source:
        """Return the examples at `indices` (int [M]), in that order."""
        return dataclasses.replace(self, records=self.records[indices])

    def sample(self, count: int | None) -> Source:
        """Return `count` examples, evenly spaced, because files are often in the order of their
        classes; all if there are fewer, or for None.
        """
        if count is None or count >= len(self):
            return self
        return self.subset(evenly_spaced(len(self), count))

    def relabel(self, class_names: tuple[str, ...]) -> Source:
        """Return the source with labels that are indices into other class names.

        Annotations of other classes are dropped, and so are examples whose only label is dropped.
        Images that lose some or all objects are kept.
        """
        number = {name: label for label, name in enumerate(class_names)}
        position = np.array([number.get(name, -1) for name in self.classes], np.int32)
        read_record, stay = self.read_record, np.ones(len(self), bool)
        relabeled = tuple(annotation.relabel(position) for annotation in self.annotations)
        for annotation in relabeled:
            read_record = annotation.relabel_reader(read_record, position)
            stay &= annotation.stay(self.records)
        return dataclasses.replace(
            self,
            facts=self.facts._replace(class_names=class_names),
            annotations=relabeled,
            read_record=read_record,
            known_digests=self._still_known(relabeled),
        ).subset(np.flatnonzero(stay))

    def at_most(self, objects: int) -> Source:
        """Return the source with only the first objects of each image."""
        limited = tuple(
            annotation.at_most(objects, self.name_record) for annotation in self.annotations
        )
        known = self._still_known(limited)
        return dataclasses.replace(self, annotations=limited, known_digests=known)

    def _still_known(self, annotations: Sequence[Annotation]) -> np.ndarray | None:
        """Return the known digests if annotations haven't changed, else None."""
        same = all(now is before for now, before in zip(annotations, self.annotations, strict=True))
        return self.known_digests if same else None


def as_text(value: object) -> str:
    """Return a value of a column as text; "" for None."""
    return "" if value is None else str(value)


def make_source(
    facts: Facts,
    annotations: Sequence[Annotation],
    records: int,
    read_record: Reader,
    name_record: Callable[[int], str],
    locate: Callable[[str], str] = str,
) -> Source:
    """Return all records of a format as one source.

    Args:
        facts: names of classes and keypoints.
        annotations: annotations of all records.
        records: R, the number of records.
        read_record, name_record: as in `Source`.
        locate: maps a record's name to its full path.
    """
    return Source(
        facts,
        tuple(annotations),
        read_record,
        name_record,
        lambda record: locate(name_record(record)),
        np.arange(records, dtype=np.int64),
    )
