"""Guards reads of TFRecords by number: they return the records that TensorFlow wrote."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.data.sources.records import record_reader
from cvpipe.errors import DataError

RANDOM = np.random.default_rng(0)
CONTENTS = [[RANDOM.bytes(RANDOM.integers(0, 5000)) for _ in range(count)] for count in (7, 1, 12)]


@dataclasses.dataclass
class Part:
    filename: str
    skip: int
    take: int


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Write TFRecord files with CONTENTS."""
    for number, records in enumerate(CONTENTS):
        with tf.io.TFRecordWriter(str(tmp_path / f"{number}.tfrecord")) as writer:
            for record in records:
                writer.write(record)
    return [str(tmp_path / f"{number}.tfrecord") for number in range(3)]


def test_records_are_numbered_across_all_parts(files: list[str]) -> None:
    read = record_reader(
        "tfrecord", [Part(files[2], 3, 9), Part(files[0], 0, 5), Part(files[1], 0, 1)], "here"
    )
    expected = CONTENTS[2][3:] + CONTENTS[0][:5] + CONTENTS[1]
    assert [read(number) for number in range(len(expected))] == expected


def test_concurrent_threads_get_the_records_that_they_request(files: list[str]) -> None:
    read = record_reader(
        "tfrecord", [Part(file, 0, len(records)) for file, records in zip(files, CONTENTS)], "here"
    )
    every = sum(CONTENTS, [])
    requested = RANDOM.integers(0, len(every), 1000).tolist()
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(read, requested)) == [every[number] for number in requested]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-30],
        lambda content: content[:4],
        lambda content: b"\xff" * len(content),
    ],
)
def test_a_damaged_file_is_named(files: list[str], damage: Callable[[bytes], bytes]) -> None:
    Path(files[0]).write_bytes(damage(Path(files[0]).read_bytes()))
    with pytest.raises(
        DataError,
        match=(
            r"0.tfrecord: cut off or damaged at record \d; remove the data set and prepare it again"
        ),
    ):
        record_reader("tfrecord", [Part(files[0], 0, 7)], "here")


def test_a_missing_file_is_named(files: list[str]) -> None:
    Path(files[0]).unlink()
    with pytest.raises(
        DataError,
        match=(
            r"0.tfrecord: can't be read \(No such file or directory\); remove the data set and"
            r" prepare"
        ),
    ):
        record_reader("tfrecord", [Part(files[0], 0, 7)], "here")


def test_a_format_that_cant_be_read_by_number_is_an_error() -> None:
    with pytest.raises(
        DataError, match="here: the files are riegeli, but must be tfrecord or array_record"
    ):
        record_reader("riegeli", [], "here")
