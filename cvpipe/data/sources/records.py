"""Random access to the records of TFRecord and ArrayRecord files, from any thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from cvpipe.data.sources.tfrecord_index import tfrecord_places
from cvpipe.data.sources.zip_entries import read_at
from cvpipe.errors import DataError

# Number of examples that are in memory while labels are read: about 30 MB for ImageNet.
RECORDS_AT_ONCE = 256


class Part(Protocol):
    """Consecutive records of a file, as TensorFlow Datasets describes them."""

    filename: str
    skip: int
    take: int


def record_reader(file_format: str, parts: Sequence[Part], place: str) -> Callable[[int], bytes]:
    """Return a function from a record's number, counted over all parts, to its bytes.

    Raises:
        DataError: the format isn't "tfrecord" or "array_record", or a file is missing or truncated.
            The returned function raises it, too.
    """
    if file_format == "tfrecord":
        return _tfrecord_reader(parts)
    if file_format == "array_record":
        return _array_record_reader(parts)
    raise DataError(
        f"{place}: the files are {file_format}, but must be tfrecord or array_record; prepare"
        " the data set in one of these formats"
    )


def parsed_records(
    read: Callable[[int], bytes], records: int, features: Mapping[str, Any], wanted: str, place: str
) -> Iterator[dict[str, Any]]:
    """Yield all records in order, parsed by `tf.io.parse_example` in batches of some hundred.

    Args:
        read: maps a record's number to its bytes, a `tf.train.Example`.
        features: features to parse, by name.
        wanted: name of the features in error messages.
        place: location of the data set, for errors.

    Raises:
        DataError: a record is damaged or lacks a feature.
    """
    for begin in range(0, records, RECORDS_AT_ONCE):
        examples = [read(record) for record in range(begin, min(begin + RECORDS_AT_ONCE, records))]
        try:
            yield tf.io.parse_example(examples, features)
        # TensorFlow's message quotes the damaged bytes, which may not be text.
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
            raise DataError(
                f"{place}: one of {len(examples)} examples, from number {begin} on, is damaged or"
                f" has no '{wanted}'; remove the data set and prepare it again"
            ) from None


def _tfrecord_reader(parts: Sequence[Part]) -> Callable[[int], bytes]:
    files = [os.fspath(part.filename) for part in parts]
    # File number, offset and length of each record.
    places = np.concatenate(
        [
            np.insert(tfrecord_places(file, part.skip + part.take)[part.skip :], 0, number, axis=1)
            for number, (file, part) in enumerate(zip(files, parts, strict=True))
        ]
    )

    def read(record: int) -> bytes:
        file, offset, length = places[record].tolist()
        return read_at(files[file], offset, length)

    return read


def _array_record_reader(parts: Sequence[Part]) -> Callable[[int], bytes]:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    records = ArrayRecordDataSource(list(parts))

    def read(record: int) -> bytes:
        try:
            return records[record]
        except (OSError, RuntimeError, ValueError, IndexError) as error:
            raise DataError(f"the record can't be read ({error})") from None

    return read
