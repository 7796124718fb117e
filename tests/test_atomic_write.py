"""Guards atomic writes: after an error the old file is whole, and after a power cut the new file is
whole. Two processes that write the same file or folder don't damage each other's.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cvpipe.atomic_write import atomic_folder, atomic_write
from cvpipe.errors import DataError

# Writes half of a file or folder, prints a line, waits for a line on stdin, and writes the rest.
SLOW = """
import pathlib, sys
from cvpipe.atomic_write import atomic_folder, atomic_write

def wait():
    print("half", flush=True)
    sys.stdin.readline()

target = pathlib.Path(sys.argv[2])
if sys.argv[1] == "file":
    with atomic_write(target) as stream:
        stream.write(b"slow half, ")
        stream.flush()
        wait()
        stream.write(b"rest")
else:
    with atomic_folder(target) as folder:
        (folder / "half.txt").touch()
        wait()
        (folder / "rest.txt").touch()
"""


def slow(kind: str, target: Path) -> subprocess.Popen[str]:
    """Start SLOW; return when it has written half."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, kind, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "half\n"
    return process


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


def test_two_processes_that_write_a_file_both_write_it_whole(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    process = slow("file", file)
    write(file, b"fast")
    assert file.read_bytes() == b"fast"
    _, err = process.communicate("\n")
    assert process.returncode == 0, err
    assert file.read_bytes() == b"slow half, rest" and list(tmp_path.iterdir()) == [file]


def test_a_process_that_is_killed_does_not_damage_the_file_that_another_writes(
    tmp_path: Path,
) -> None:
    file = tmp_path / "answers.jsonl"
    with atomic_write(file) as stream:
        stream.write(b"first half, ")
        stream.flush()
        process = slow("file", file)
        process.kill()
        process.communicate()
        stream.write(b"rest")
    assert file.read_bytes() == b"first half, rest" and len(list(tmp_path.iterdir())) == 2
    # The next call removes what the killed process left.
    write(file, b"new")
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_two_processes_write_has_all_files_of_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    process = slow("folder", target)
    with atomic_folder(target) as folder:
        (folder / "whole.txt").touch()
    _, err = process.communicate("\n")
    assert process.returncode and "another process has written to this folder" in err
    assert [path.name for path in target.iterdir()] == ["whole.txt"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_of_a_killed_process_is_removed_and_that_of_a_running_one_kept(
    tmp_path: Path,
) -> None:
    target = tmp_path / "out"
    killed, running = slow("folder", target), slow("folder", target)
    killed.kill()
    killed.communicate()
    with pytest.raises(DataError, match="out: another process has written to this folder"):
        write_folder_during(target, running)
    assert {path.name for path in target.iterdir()} == {"half.txt", "rest.txt"}
    assert list(tmp_path.iterdir()) == [target]


def write_folder_during(target: Path, other: subprocess.Popen[str]) -> None:
    """Write a folder; before it is complete, let the other process complete its own."""
    with atomic_folder(target) as folder:
        (folder / "whole.txt").touch()
        _, err = other.communicate("\n")
        assert other.returncode == 0, err
