"""Guards the index of TFRecord files: it is built once, and again if the file changes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.data.sources import tfrecord_index
from cvpipe.data.sources.crc32c import masked_crc32c
from cvpipe.data.sources.tfrecord_index import tfrecord_places
from cvpipe.errors import DataError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a file of 30 records, whose index is cached in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tfrecord_index, "LEAST_REMEMBERED", 20)
    return write(tmp_path / "some.tfrecord", [b"x" * number for number in range(30)])


def write(file: Path, records: list[bytes]) -> str:
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record)
    return str(file)


def scans(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Count the passes over files."""
    found: list[int | None] = []
    scan = tfrecord_index._scan

    def counted(file: str, records: int | None, advice: str) -> np.ndarray:
        found.append(records)
        return scan(file, records, advice)

    monkeypatch.setattr(tfrecord_index, "_scan", counted)
    return found


def test_a_file_is_scanned_once(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = scans(monkeypatch)
    first = tfrecord_places(file, 25)
    assert first[:, 1].tolist() == list(range(25))
    np.testing.assert_array_equal(tfrecord_places(file, 25), first)
    np.testing.assert_array_equal(tfrecord_places(file, 3), first[:3])
    assert passes == [25]
    # The cached index is too short for this number.
    assert len(tfrecord_places(file, 30)) == len(tfrecord_places(file, 29)) + 1 == 30
    assert passes == [25, 30]


def test_all_records_are_found_if_their_number_is_unknown(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = scans(monkeypatch)
    some = tfrecord_places(file, 25)
    every = tfrecord_places(file, None)
    assert every[:, 1].tolist() == list(range(30)) and (every[:25] == some).all()
    assert len(tfrecord_places(file, None)) == 30 and passes == [25, None]


def test_checksums_are_those_that_tensorflow_writes(file: str) -> None:
    content = Path(file).read_bytes()
    for begin, length in tfrecord_places(file, None).tolist():
        assert masked_crc32c(content[begin - 12 : begin - 4]) == content[begin - 4 : begin]
        end = begin + length
        assert masked_crc32c(content[begin:end]) == content[end : end + 4]


def test_a_damaged_length_is_found(file: str) -> None:
    content = bytearray(Path(file).read_bytes())
    content[tfrecord_places(file, None)[7, 0] - 12] ^= 1
    Path(file).write_bytes(content)
    with pytest.raises(DataError, match="cut off or damaged at record 7; remove the data set"):
        tfrecord_places(file, 30)


def test_a_file_that_changed_is_scanned_again(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tfrecord_places(file, 30)
    write(Path(file), [b"y" * number for number in range(29, -1, -1)])
    os.utime(file, ns=(0, 123))
    passes = scans(monkeypatch)
    assert tfrecord_places(file, 30)[:, 1].tolist() == list(range(29, -1, -1))
    assert passes == [30]


def test_a_damaged_index_is_rebuilt(file: str, tmp_path: Path) -> None:
    known = tfrecord_places(file, 30)
    [index] = (tmp_path / "cache").rglob("*.npz")
    content = index.read_bytes()
    for damaged in (b"", content[:50], content[:300] + b"?" + content[301:]):
        index.write_bytes(damaged)
        np.testing.assert_array_equal(tfrecord_places(file, 30), known)


def test_without_a_folder_for_the_index_the_file_is_scanned_each_time(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("no folder")
    passes = scans(monkeypatch)
    assert len(tfrecord_places(file, 30)) == len(tfrecord_places(file, 30)) == 30
    assert passes == [30, 30]
    with pytest.raises(DataError, match="none.tfrecord: can't be read"):
        tfrecord_places(str(tmp_path / "none.tfrecord"), 30)
