"""Guards files: a folder and a zip archive of it are the same."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.data.sources import files
from cvpipe.data.sources.files import Files, open_files
from cvpipe.errors import DataError

CONTENTS = {
    "a.txt": b"plain",
    "b/zeros.bin": b"\0\0mid\0\0\0",
    "b/empty": b"",
    "b/large.bin": np.random.default_rng(0).bytes(100_000),
    "b/räumlich.txt": b"x" * 10_000,
}
NAMES = sorted(CONTENTS)


def as_folder(path: Path) -> Path:
    for name, content in CONTENTS.items():
        (path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "data" / name).write_bytes(content)
    return path / "data"


def as_zip(path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path / "data.zip", "w", method) as archive:
        archive.mkdir("b")
        for name, content in CONTENTS.items():
            # An extra field before the content, as many tools write.
            entry = zipfile.ZipInfo(name)
            entry.compress_type, entry.extra = method, b"\x99\x99\x04\0abcd"
            archive.writestr(entry, content)
    return path / "data.zip"


def after_other_bytes(path: Path) -> Path:
    """Write an archive after other bytes, as in self-extracting archives."""
    whole = as_zip(path)
    whole.write_bytes(b"#!/bin/sh\n" + whole.read_bytes())
    return whole


PLACES = {
    "folder": as_folder,
    "zip": as_zip,
    "stored zip": lambda path: as_zip(path, zipfile.ZIP_STORED),
    "prefix": after_other_bytes,
}


@pytest.fixture(params=PLACES)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return open_files(str(PLACES[request.param](tmp_path)))


def test_files_are_listed_in_order_and_read_whole(opened: Files) -> None:
    assert opened.names() == NAMES
    assert {name: opened.read(name) for name in NAMES} == CONTENTS


def test_files_are_read_by_number_in_a_graph_from_many_threads(opened: Files) -> None:
    chosen = [NAMES[n] for n in np.random.default_rng(0).integers(0, len(NAMES), 500)]
    read = opened.reader(chosen)
    dataset = tf.data.Dataset.range(500).map(read, num_parallel_calls=8, deterministic=True)
    assert dataset.element_spec == {"bytes": tf.TensorSpec([], tf.string)}
    assert [row["bytes"] for row in dataset.as_numpy_iterator()] == [
        CONTENTS[name] for name in chosen
    ]
    assert read(tf.constant(7, tf.int64))["bytes"].numpy() == CONTENTS[chosen[7]]


def test_a_missing_file_is_an_error_only_when_it_is_read(opened: Files) -> None:
    read = opened.reader(["a.txt", "gone.jpg"])
    assert read(tf.constant(0, tf.int64))["bytes"].numpy() == b"plain"
    with pytest.raises((DataError, tf.errors.NotFoundError)):
        read(tf.constant(1, tf.int64))
    with pytest.raises((tf.errors.UnknownError, tf.errors.NotFoundError)):
        list(tf.data.Dataset.range(2).map(read))
    with pytest.raises(DataError, match=r"data.*b/empt: no such file; did you mean 'b/empty'"):
        opened.read("b/empt")
    with pytest.raises(
        DataError, match=r"no such file; did you mean 'a.txt'\? known: a.txt, b/räumlich.txt"
    ):
        opened.read("aa.txt")


def test_files_outside_a_folder_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_bytes(b"outside")
    opened = open_files(str(as_folder(tmp_path)))
    names = ["../other.txt", str(tmp_path / "other.txt")]
    assert [opened.reader(names)(tf.constant(n, tf.int64))["bytes"].numpy() for n in (0, 1)] == [
        b"outside"
    ] * 2
    assert opened.locate(names[1]) == str(tmp_path / "other.txt")


def test_a_damaged_entry_does_not_affect_others(tmp_path: Path) -> None:
    path = as_zip(tmp_path)
    content, packed = path.read_bytes(), zlib.compress(CONTENTS["b/räumlich.txt"], wbits=-15)
    at = content.index(packed[:8])
    path.write_bytes(content[:at] + b"\xff" * 8 + content[at + 8 :])
    read = open_files(str(path)).reader(NAMES)
    for number, name in enumerate(NAMES):
        if name == "b/räumlich.txt":
            with pytest.raises(DataError, match=r"it can't be unpacked \(the archive is damaged\)"):
                read(tf.constant(number, tf.int64))
        else:
            assert read(tf.constant(number, tf.int64))["bytes"].numpy() == CONTENTS[name]


def test_an_archive_that_shrank_or_vanished_is_an_error_of_the_record(tmp_path: Path) -> None:
    path = as_zip(tmp_path)
    read = open_files(str(path)).reader(NAMES)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="data.zip is cut off"):
        read(tf.constant(NAMES.index("b/large.bin"), tf.int64))
    path.unlink()
    with pytest.raises(DataError, match=r"data.zip can't be read \(No such file or directory\)"):
        read(tf.constant(0, tf.int64))


def test_a_file_that_is_too_large_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = open_files(str(as_zip(tmp_path))).reader(NAMES)
    monkeypatch.setattr(files, "MAX_BYTES", 9_999)
    monkeypatch.setattr(files, "unpack", lambda *place: pytest.fail("unpacked"))
    with pytest.raises(DataError, match="the file has more than the .* bytes that are allowed"):
        read(tf.constant(NAMES.index("b/räumlich.txt"), tf.int64))


def test_the_error_of_an_unsupported_compression_method_names_it(tmp_path: Path) -> None:
    read = open_files(str(as_zip(tmp_path, zipfile.ZIP_LZMA))).reader(NAMES)
    with pytest.raises(DataError, match="compressed by a method other than deflate"):
        read(tf.constant(0, tf.int64))


def test_a_path_that_is_neither_a_folder_nor_an_archive_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no archive")
    messages = {
        "missing": "no such folder or zip archive",
        "file": "neither a folder nor a readable zip archive",
        "file/x": "no such",
    }
    for name, message in messages.items():
        with pytest.raises(DataError, match=f"{name}: {message}.*data.source.path"):
            open_files(str(tmp_path / name))
