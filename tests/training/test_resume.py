"""Guards exact resume: a run that is stopped, however it is, ends with the bits of a whole one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import Once

OVERRIDES = (
    # A checkpoint after every step.
    "train.epochs=2",
    "train.steps_per_call=1",
    "train.checkpoint_minutes=1e-9",
    "data.limit=200",
    # All that happens within an epoch or a step.
    "prepare.size=[8, 8]",
    "schedule={kind: restarts, cycle_epochs: 0.5, growth: 2, warmup_epochs: 0.5}",
    "train.snapshots=true",
    "train.accumulate=2",
    "mix=[{op: mixup}, {op: cutmix}]",
)
ARGUMENTS = [part for override in OVERRIDES for part in ("--set", override)]
STEPS = 13


def train(arguments: list[str], run: Path, *stop: str) -> tuple[int, str]:
    """Run `cvpipe train` in a process of its own, stopped as `stop` says: (exit code, stderr)."""
    command = [str(Path(__file__).with_name("stopped.py")), *stop] if stop else ["-m", "cvpipe"]
    command += ["train", *arguments, *ARGUMENTS, "--run", str(run)]
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stderr


def checkpoint(run: Path, which: str) -> dict[str, bytes]:
    with np.load(run / "checkpoints" / f"{which}.npz") as arrays:
        return {name: arrays[name].tobytes() for name in arrays}


def step_of(run: Path) -> int:
    return int.from_bytes(checkpoint(run, "last")["step"], sys.byteorder)


def validation_scores(run: Path) -> list[str]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [line for line in lines if '"split": "validation"' in line]


@pytest.fixture(scope="session")
def uninterrupted(once: Once, small_arguments: list[str]) -> Path:
    """The folder of a run that nothing stopped."""

    def make(folder: Path) -> None:
        code, err = train(small_arguments, folder)
        assert code == 0, err

    return once("runs/uninterrupted", make)


def assert_the_same_run(run: Path, uninterrupted: Path) -> None:
    for which in ("last", "best", "snapshot-1", "snapshot-2"):
        assert checkpoint(run, which) == checkpoint(uninterrupted, which)
    assert validation_scores(run) == validation_scores(uninterrupted) != []


@pytest.mark.parametrize(
    "name, moment, code",
    [
        ("SIGTERM", "after", 75),
        pytest.param("SIGINT", "after", 75, marks=pytest.mark.soak),
        pytest.param("SIGTERM", "during", 75, marks=pytest.mark.soak),
        pytest.param("SIGKILL", "before", -9, marks=pytest.mark.soak),
        pytest.param("SIGKILL", "during", -9, marks=pytest.mark.soak),
        pytest.param("SIGKILL", "after", -9, marks=pytest.mark.soak),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_bits(
    tmp_path: Path,
    small_arguments: list[str],
    uninterrupted: Path,
    name: str,
    moment: str,
    code: int,
) -> None:
    assert step_of(uninterrupted) == STEPS
    run, step = tmp_path / "run", 4
    given, err = train(small_arguments, run, name, str(step), moment)
    assert given == code, err
    # A checkpoint that was not renamed yet is none.
    stopped_at = (
        step - 1 if (name, moment) in (("SIGKILL", "before"), ("SIGKILL", "during")) else step
    )
    assert step_of(run) == stopped_at
    if code == 75:
        assert f"stopped at step {stopped_at}" in err and "The same command resumes it" in err
    given, err = train(small_arguments, run)
    assert given == 0, err
    assert f"resuming at step {stopped_at}" in err
    assert_the_same_run(run, uninterrupted)


@pytest.mark.soak
def test_a_run_killed_again_and_again_ends_with_the_same_bits(
    tmp_path: Path, small_arguments: list[str], uninterrupted: Path
) -> None:
    moments = ("before", "during", "after")
    for step in range(2, STEPS, 2):
        code, err = train(small_arguments, tmp_path, "SIGKILL", str(step), moments[step % 3])
        assert code == -9, err
    code, err = train(small_arguments, tmp_path)
    assert code == 0, err
    assert_the_same_run(tmp_path, uninterrupted)
