"""Guards atomic writes: after an error the old file is whole, and after a power cut the new file is
whole.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from cvpipe.atomic_write import atomic_write


def write(file: Path, content: bytes) -> None:
    with atomic_write(file) as stream:
        stream.write(content)


@pytest.mark.parametrize("old", [None, b"old and longer"])
def test_a_file_is_written_or_replaced(tmp_path: Path, old: bytes | None) -> None:
    file = tmp_path / "scores.json"
    if old:
        file.write_bytes(old)
    write(file, b"new")
    assert file.read_bytes() == b"new" and list(tmp_path.iterdir()) == [file]


def test_the_old_file_stays_until_the_new_file_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "last.npz"
    write(file, b"old")
    with atomic_write(file) as stream:
        stream.write(b"new")
        stream.flush()
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [None, b"old"])
def test_an_error_keeps_the_old_content_and_leaves_nothing_behind(
    tmp_path: Path, old: bytes | None, error: BaseException
) -> None:
    file = tmp_path / "last.npz"
    if old:
        file.write_bytes(old)

    def fail_halfway() -> None:
        with atomic_write(file) as stream:
            stream.write(b"half of the ne")
            raise error

    with pytest.raises(type(error)):
        fail_halfway()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([old] if old else [])


@pytest.mark.parametrize("step", ["os.fsync", "os.replace"])
def test_an_error_of_the_disk_keeps_the_old_content_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    file = tmp_path / "last.npz"
    write(file, b"old")

    def fail(*arguments: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(step, fail)
    with pytest.raises(OSError, match="no space left"):
        write(file, b"new")
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]


def test_a_file_is_flushed_before_it_is_renamed_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, done = tmp_path / "last.npz", []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        # Python's buffer must have been flushed before this call.
        done.append("folder" if stat.S_ISDIR(status.st_mode) else f"{status.st_size} bytes")
        fsync(descriptor)

    def note_replace(*paths: Any) -> None:
        done.append("renamed")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write(file, b"new")
    assert done == ["3 bytes", "renamed", "folder"] and file.read_bytes() == b"new"
