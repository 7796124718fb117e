"""Guards the index of TFRecord files: built once, and never of another file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.data.sources import tfrecord_index
from cvpipe.data.sources.tfrecord_index import tfrecord_places
from cvpipe.errors import DataError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of 30 records whose places are remembered in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tfrecord_index, "LEAST_REMEMBERED", 20)
    return write(tmp_path / "some.tfrecord", [b"x" * number for number in range(30)])


def write(file: Path, records: list[bytes]) -> str:
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record)
    return str(file)


def scans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the passes over files."""
    found: list[int] = []
    scan = tfrecord_index._scan

    def counted(file: str, records: int) -> np.ndarray:
        found.append(records)
        return scan(file, records)

    monkeypatch.setattr(tfrecord_index, "_scan", counted)
    return found


def test_a_file_is_looked_through_once(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = scans(monkeypatch)
    first = tfrecord_places(file, 25)
    assert first[:, 1].tolist() == list(range(25))
    np.testing.assert_array_equal(tfrecord_places(file, 25), first)
    np.testing.assert_array_equal(tfrecord_places(file, 3), first[:3])
    assert passes == [25]
    # More than is remembered.
    assert len(tfrecord_places(file, 30)) == len(tfrecord_places(file, 29)) + 1 == 30
    assert passes == [25, 30]


def test_a_file_that_changed_is_looked_through_again(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tfrecord_places(file, 30)
    write(Path(file), [b"y" * number for number in range(29, -1, -1)])
    os.utime(file, ns=(0, 123))
    passes = scans(monkeypatch)
    assert tfrecord_places(file, 30)[:, 1].tolist() == list(range(29, -1, -1))
    assert passes == [30]


def test_a_damaged_index_is_made_anew(file: str, tmp_path: Path) -> None:
    known = tfrecord_places(file, 30)
    [index] = (tmp_path / "cache").rglob("*.npz")
    content = index.read_bytes()
    for damaged in (b"", content[:50], content[:300] + b"?" + content[301:]):
        index.write_bytes(damaged)
        np.testing.assert_array_equal(tfrecord_places(file, 30), known)


def test_without_a_place_for_the_index_it_is_found_each_time(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("no folder")
    passes = scans(monkeypatch)
    assert len(tfrecord_places(file, 30)) == len(tfrecord_places(file, 30)) == 30
    assert passes == [30, 30]
    with pytest.raises(DataError, match="none.tfrecord: can't be read"):
        tfrecord_places(str(tmp_path / "none.tfrecord"), 30)
