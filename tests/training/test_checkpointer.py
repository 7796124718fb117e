"""Guards checkpoints during a training: they are written in the background, damaged ones are
skipped, and a full or read-only disk is an error.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import DIGITS, SMALL, Once, small_config
from cvpipe.errors import UserError
from cvpipe.training import checkpointer
from cvpipe.training.checkpoints import read_checkpoint
from cvpipe.training.run import Run
from cvpipe.training.train import train

Cvpipe = Callable[..., tuple[int, str, str]]
CONFIG = (
    "model={backbone: two_layer, dropout: 0.1}",
    "prepare.size=[8, 8]",
    "data.limit=200",
    "train.epochs=2",
    "train.checkpoint_minutes=1e-9",
    "train.steps_per_call=2",
)


@pytest.fixture(scope="session")
def finished(once: Once) -> Path:
    """The folder of a finished run that saved after every second step."""
    return once("runs/checkpointer", lambda folder: train(small_config(*CONFIG), folder))


def state(run: Path) -> dict[str, np.ndarray]:
    return read_checkpoint(Run(run).checkpoint("last"))


def assert_equal(run: Path, other: Path) -> None:
    one, two = state(run), state(other)
    assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in two.items()}


def test_a_run_keeps_three_checkpoints_of_different_steps(finished: Path) -> None:
    files = sorted((finished / "checkpoints").glob("*"))
    names = [file.name for file in files if file.name.startswith("earlier-")]
    assert len(names) == 2
    assert {file.name for file in files} == {"best.npz", "last.npz", *names}
    steps = {
        int(read_checkpoint(file, ["step"])["step"]) for file in files if "best" not in str(file)
    }
    assert len(steps) == 3 and max(steps) == int(state(finished)["step"])


def test_a_run_with_a_damaged_last_checkpoint_ends_with_the_same_bits(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    last = Run(run).checkpoint("last")
    damaged = last.read_bytes()[:-100]
    last.write_bytes(damaged)
    train(small_config(*CONFIG), run)
    said = capsys.readouterr().err
    assert "last.npz is damaged; it is kept as damaged-1.npz" in said
    assert (
        "continuing from the previous checkpoint, earlier-" in said and "resuming at step" in said
    )
    assert_equal(run, finished)
    assert (last.parent / "damaged-1.npz").read_bytes() == damaged


def test_checkpoints_written_in_the_background_are_the_same(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointer, "BACKGROUND_BYTES", 0)
    train(small_config(*CONFIG), tmp_path / "run")
    assert_equal(tmp_path / "run", finished)
    names = {file.name for file in (finished / "checkpoints").iterdir()}
    assert {file.name for file in (tmp_path / "run" / "checkpoints").iterdir()} == names


def test_a_failed_checkpoint_in_the_background_ends_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointer, "BACKGROUND_BYTES", 0)
    write = checkpointer.write_last

    def full(*arguments: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", no_space)
            write(*arguments)

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpointer, "write_last", full)
    with pytest.raises(
        UserError, match="can't be written .No space left on device.*Free disk space"
    ):
        train(small_config(*CONFIG), tmp_path / "run")
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB, which may be filled and made read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a disk needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.soak
def test_a_full_or_read_only_disk_is_a_clear_error_and_the_run_continues_afterwards(
    finished: Path, small_disk: Path, cvpipe: Cvpipe, tmp_path: Path
) -> None:
    words = [word for override in (*SMALL, *CONFIG) for word in ("--set", override)]
    run, filling = small_disk / "run", small_disk / "filling"
    # Free bytes for nothing, for the folder, for the first checkpoint, and for several checkpoints.
    for room in (0, 20_000, 60_000, 120_000, 200_000):
        filling.write_bytes(bytes(max(shutil.disk_usage(small_disk).free - room, 0)))
        code, out, err = cvpipe("train", DIGITS, *words, "--run", run)
        assert (code, out) == (1, ""), room
        assert "No space left on device" in err and "Traceback" not in err, (room, err)
        filling.unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, out, err = cvpipe("train", DIGITS, *words, "--run", run)
    assert (code, out) == (1, "") and "Read-only file system" in err and "Traceback" not in err
    subprocess.run(["mount", "-o", "remount,rw,size=16m", str(small_disk)], check=True)
    code, _, err = cvpipe("train", DIGITS, *words, "--run", run)
    assert code == 0, err
    assert_equal(run, finished)
