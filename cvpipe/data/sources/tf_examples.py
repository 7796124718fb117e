"""Reading of examples (tf.train.Example) from TFRecord files, by number, from any thread.

All records are read once when a source is opened, to find annotations and damaged records.
Afterwards, records are read by their offsets.

Dimensions: R records of a split.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from cvpipe.data.example import Example, Reader
from cvpipe.data.graph import read_in_python
from cvpipe.data.sources.crc32c import masked_crc32c
from cvpipe.data.sources.record_files import Shard, first_bytes
from cvpipe.data.sources.tfrecord_index import tfrecord_places
from cvpipe.data.sources.zip_entries import read_at
from cvpipe.errors import DataError, counted

T = TypeVar("T")

DAMAGED = "the record is damaged: its checksum is wrong"
NO_EXAMPLE = "the record isn't a tf.train.Example"
FILENAMES = ("image/filename", "filename")
_ADVICE = "fetch or write it again"
_NAME = re.compile(
    r"\.(tfrecords?|tfrec|records?)(-\d+-of-\d+)?$|^[^.]+-\d{3,}-of-\d{3,}$", re.IGNORECASE
)


class Features:
    """Features of an example by name: lists of int, float or bytes."""

    def __init__(self, record: bytes):
        """Parse a record; raises DataError if it isn't a tf.train.Example."""
        try:
            self._features: Any = tf.train.Example.FromString(record).features.feature
        except DecodeError:
            raise DataError(NO_EXAMPLE) from None

    def names(self) -> list[str]:
        """Return the names of all features that have values."""
        return sorted(name for name in self._features if self.values(name))

    def values(self, name: str) -> Sequence[Any]:
        """Return a feature's values; none if there is no such feature."""
        # Looking up a missing key would add it.
        if name not in self._features:
            return ()
        feature = self._features[name]
        kind = feature.WhichOneof("kind")
        return getattr(feature, kind).value if kind else ()

    def text(self, name: str) -> str:
        """Return a feature's first value as text; "" if there is none."""
        values = self.values(name)
        return as_text(values[0]) if values else ""


class Examples:
    """The examples of a split's files, R in all."""

    def __init__(self, shards: Sequence[Shard]):
        """Find all records.

        Raises:
            DataError: a file is cut off, or the length of a record is damaged.
        """
        self.shards = shards
        found = [places_of(shard) for shard in shards]
        # File, offset and length of each record.
        self.places = np.concatenate(
            [np.insert(places, 0, number, axis=1) for number, places in enumerate(found)]
        )
        self.numbers = np.concatenate([np.arange(len(places)) for places in found])
        self.faults: dict[int, str] = {}
        """Reasons why records can't be read, by number."""
        self.damaged: list[int] = []
        """Records that aren't a tf.train.Example or have a wrong checksum."""
        self.features: list[str] = []
        """Features of the first example."""

    def __len__(self) -> int:
        return len(self.places)

    def scan(self, look: Callable[[int, Features], T]) -> list[T | None]:
        """Return the results of `look` for all records, [R]; None for damaged records.

        `look` maps a record's number and features to a result.

        Raises:
            DataError: most records are damaged.
        """
        found: list[T | None] = []
        self.damaged = []
        for record, content in enumerate(self._contents()):
            try:
                if content is None:
                    raise DataError(DAMAGED)
                features = Features(content)
            except DataError as error:
                self.faults[record] = str(error)
                self.damaged.append(record)
                found.append(None)
            else:
                self.features = self.features or features.names()
                found.append(look(record, features))
        if len(self.damaged) > len(self) / 2:
            first = self.damaged[0]
            raise DataError(
                f"{self.shards[0].place}: {len(self.damaged):,} of the split's"
                f" {counted(len(self), 'record')} can't be read, such as {self.name(first)}"
                f" ({self.faults[first]}); fetch or write the files again"
            )
        return found

    def without(self, place: str, feature: str, key: str) -> DataError:
        """Return the error for a feature that no example has; `key` is the key that names it in a
        pipeline file.
        """
        known = ", ".join(self.features) or "none"
        return DataError(
            f"{place}: no example has a usable '{feature}'; the features of the first example are"
            f" {known}; set {key} to one of them"
        )

    def read(self, record: int) -> bytes:
        """Return a record; raises DataError for a record with a fault."""
        if record in self.faults:
            raise DataError(self.faults[record])
        number, offset, length = self.places[record].tolist()
        return read_at(self.shards[number].path, offset, length)

    def name(self, record: int) -> str:
        """Return a record's name: its file, and its number in the file, counted from 0."""
        return f"{self.shards[self.places[record, 0]].name} record {self.numbers[record]}"

    def _contents(self) -> Iterator[bytes | None]:
        """Yield all records in order, None for records whose checksum is wrong."""
        for number, shard in enumerate(self.shards):
            intact = 0
            try:
                for content in tf.data.TFRecordDataset(shard.path).as_numpy_iterator():
                    yield content
                    intact += 1
            except tf.errors.DataLossError:
                # TensorFlow stops at the first wrong checksum.
                places = self.places[self.places[:, 0] == number, 1:].tolist()
                yield from (_checked(shard.path, *place) for place in places[intact:])


def is_tfrecord(name: str) -> bool:
    """Return True if a file is named like TFRecord files."""
    return bool(_NAME.search(name.rpartition("/")[2]))


def places_of(shard: Shard) -> np.ndarray:
    """Locate all records of a file: int64 [records of the file, 2], offset and length.

    Raises:
        DataError: the file isn't a TFRecord file or is cut off, or the length of a record is
            damaged.
    """
    if not begins_as_tfrecord(shard):
        raise DataError(
            f"{shard.place}: not a TFRecord file, or its first bytes are damaged; {_ADVICE}, or"
            " name other files in data.source.train"
        )
    try:
        return tfrecord_places(shard.path, None, _ADVICE)
    except DataError as error:
        raise DataError(str(error).replace(shard.path, shard.place)) from None


def begins_as_tfrecord(shard: Shard) -> bool:
    """Return True if a file begins with a record's length and its checksum."""
    head = first_bytes(shard, 12)
    return masked_crc32c(head[:8]) == head[8:]


def image_reader(examples: Examples, image: str) -> Reader:
    """Return graph code that maps a record number to the "bytes" of its image."""
    wanted = {image: tf.io.FixedLenFeature([], tf.string)}

    def read_record(record: tf.Tensor) -> Example:
        content = read_in_python(examples.read, record)
        return {"bytes": tf.io.parse_single_example(content, wanted)[image]}

    return read_record


def as_text(value: Any) -> str:
    """Return a feature's value as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _checked(path: str, offset: int, length: int) -> bytes | None:
    content = read_at(path, offset, length + 4)
    return content[:length] if masked_crc32c(content[:length]) == content[length:] else None
