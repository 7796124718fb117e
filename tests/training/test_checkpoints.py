"""Guards checkpoint files: complete or missing, several kept, damaged ones noticed and skipped."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from conftest import soaked
from cvpipe.errors import DataError, UserError
from cvpipe.training.checkpoints import (
    earlier_checkpoints,
    read_checkpoint,
    read_newest,
    write_checkpoint,
    write_last,
)
from flip_bit import flip_bit
from saving import KEPT, state

STEPS = 4


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_nothing_that_is_not_finite_is_saved_and_the_old_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "last.npz"
    write_checkpoint(file, {"networks/network/a": np.ones(3)})
    before = file.read_bytes()
    with pytest.raises(UserError, match="networks/network/a .*not finite"):
        write_checkpoint(file, {"networks/network/a": np.array([1, np.nan, 2])})
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "last.npz"
    write_checkpoint(file, {"networks/network/a": np.ones(3)})
    before = file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        UserError, match="No space left on device.*previous checkpoint is untouched"
    ):
        write_checkpoint(file, {"networks/network/a": np.zeros(3)})
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_file_is_noticed(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "last.npz"
    write_checkpoint(file, {"networks/network/a": np.arange(1000.0)})
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes({"cut": content[: len(content) // 2], "flip": content, "empty": b""}[damage])
    with pytest.raises(DataError, match="damaged"):
        read_checkpoint(file)


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no checkpoint; train the run first"):
        read_checkpoint(tmp_path / "last.npz")


def test_every_flipped_bit_of_a_checkpoint_is_noticed_or_changes_no_number(tmp_path: Path) -> None:
    file, values = tmp_path / "last.npz", {"step": np.int64(7), "networks/a": np.arange(6.0)}
    write_checkpoint(file, values)
    content, noticed = file.read_bytes(), 0
    for bit in range(8 * len(content)):
        flip_bit(file, bit)
        try:
            read = read_checkpoint(file)
        except DataError:
            noticed += 1
        else:
            assert read.keys() == values.keys()
            for name, value in values.items():
                assert read[name].dtype == value.dtype
                np.testing.assert_array_equal(read[name], value)
        flip_bit(file, bit)
    assert file.read_bytes() == content and noticed > 4 * len(content)


def test_the_newest_checkpoints_are_kept_under_their_steps(tmp_path: Path) -> None:
    for step in (3, 5, 9, 12):
        write_last(tmp_path / "last.npz", state(step), kept=2)
    assert names(tmp_path) == ["earlier-5.npz", "earlier-9.npz", "last.npz"]
    kept = [
        int(read_checkpoint(file)["step"]) for file in earlier_checkpoints(tmp_path / "last.npz")
    ]
    assert kept == [9, 5]


def test_checkpoints_of_steps_that_a_run_went_back_from_are_dropped(tmp_path: Path) -> None:
    for step in (3, 5, 9, 4):
        write_last(tmp_path / "last.npz", state(step), kept=3)
    assert names(tmp_path) == ["earlier-3.npz", "last.npz"]


def test_no_earlier_checkpoint_is_kept_if_none_is_wanted(tmp_path: Path) -> None:
    for step in (3, 5):
        write_last(tmp_path / "last.npz", state(step), kept=0)
    assert names(tmp_path) == ["last.npz"]


def test_a_damaged_checkpoint_is_skipped_renamed_and_reported(tmp_path: Path) -> None:
    last, told = tmp_path / "last.npz", list[str]()
    for step in (3, 5, 9):
        write_last(last, state(step), kept=2)
    for file in (last, tmp_path / "earlier-5.npz"):
        flip_bit(file, 6 * file.stat().st_size)
    damaged = last.read_bytes()
    file, arrays = read_newest(last, writes=True, note=told.append)
    assert (file.name, int(arrays["step"])) == ("earlier-3.npz", 3)
    assert names(tmp_path) == ["damaged-1.npz", "damaged-2.npz", "earlier-3.npz"]
    assert (tmp_path / "damaged-1.npz").read_bytes() == damaged
    assert told == [
        "last.npz is damaged; it is kept as damaged-1.npz",
        "earlier-5.npz is damaged; it is kept as damaged-2.npz",
        "continuing from the previous checkpoint, earlier-3.npz",
    ]


@pytest.mark.parametrize(
    "place, error",
    [
        ("zipfile.ZipFile.__init__", PermissionError(errno.EACCES, "Permission denied")),
        # zipfile itself replaces this one by BadZipFile.
        ("zipfile._EndRecData", OSError(errno.EIO, "Input/output error")),
        ("zipfile.ZipExtFile.read", OSError(errno.ESTALE, "Stale file handle")),
        ("zipfile.ZipExtFile.read", MemoryError()),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_an_error_of_disk_or_memory_is_no_damage_and_renames_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception
) -> None:
    last = tmp_path / "last.npz"
    for step in (3, 5):
        write_last(last, state(step), kept=1)

    def fail(*arguments: object, **named: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(place, fail)
        with pytest.raises(UserError, match=r"last\.npz: .*can't be read .*run the same command"):
            read_newest(last, writes=True, note=pytest.fail)
    assert names(tmp_path) == ["earlier-3.npz", "last.npz"]
    file, arrays = read_newest(last, writes=True, note=pytest.fail)
    assert (file, int(arrays["step"])) == (last, 5)


def test_an_array_that_claims_to_be_longer_than_the_file_is_damage(tmp_path: Path) -> None:
    file = tmp_path / "last.npz"
    write_checkpoint(file, {"networks/network/a": np.arange(1000.0)})
    with zipfile.ZipFile(file) as members:
        size = members.getinfo("networks/network/a.npy").compress_size
    content = file.read_bytes()
    # The last occurrences of the size are in the directory at the end.
    head, _, tail = content.rpartition(size.to_bytes(4, "little") * 2)
    file.write_bytes(head + (2**31).to_bytes(4, "little") * 2 + tail)
    with pytest.raises(DataError, match="damaged .*cut off"):
        read_checkpoint(file)


def test_if_all_checkpoints_are_damaged_the_newest_is_named_and_kept(tmp_path: Path) -> None:
    last = tmp_path / "last.npz"
    last.write_bytes(b"garbage")
    with pytest.raises(DataError, match=r"last\.npz: the checkpoint is damaged"):
        read_newest(last, writes=False, note=lambda text: None)
    assert names(tmp_path) == ["last.npz"]


# Kill at each call that a save makes, and at sizes of the file; CVPIPE_KILLS=200 makes 200 kills.
CALLS = 16
BYTES = range(0, 33_000, 33_000 // (int(os.environ.get("CVPIPE_KILLS", "40")) - CALLS))
EVENTS = [f"call {n}" for n in range(1, CALLS + 1)] + [f"byte {n}" for n in BYTES]


@pytest.mark.parametrize("event", ["call 2", "call 9", "byte 20000", *soaked(*EVENTS)])
def test_a_kill_while_saving_leaves_a_whole_checkpoint_and_in_the_end_nothing_else(
    tmp_path: Path, event: str
) -> None:
    script = str(Path(__file__).with_name("saving.py"))

    def save(first: int, last: int, event: str) -> tuple[int, list[int]]:
        command = [sys.executable, script, str(tmp_path), str(first), str(last), event]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, [int(line) for line in done.stdout.split()]

    code, saved = save(1, STEPS, event)
    assert code in (-signal.SIGKILL, -signal.SIGXFSZ)
    safe, step = max(saved, default=0), 0
    if safe or (tmp_path / "last.npz").exists():
        file, arrays = read_newest(tmp_path / "last.npz", writes=True, note=pytest.fail)
        step = int(arrays["step"])
        assert file.name == "last.npz" and arrays.keys() == state(step).keys()
        for name, value in state(step).items():
            np.testing.assert_array_equal(arrays[name], value)
    assert step in (safe, safe + 1)
    code, _ = save(step + 1, step + KEPT + 1, "never")
    assert code == 0
    assert names(tmp_path) == [f"earlier-{step + 1}.npz", f"earlier-{step + 2}.npz", "last.npz"]
