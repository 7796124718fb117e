"""A run that is stopped, in whatever way, ends with the weights of one that never was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

OVERRIDES = (
    # Slow enough to be hit in the middle, and saving so often that a kill loses little.
    "train.epochs=6",
    "train.steps_per_call=1",
    "train.checkpoint_minutes=0.002",
    # All that happens within an epoch or a step.
    "schedule={kind: restarts, cycle_epochs: 1.5, growth: 2, warmup_epochs: 0.5}",
    "train.snapshots=true",
    "train.accumulate=2",
    "mix=[{op: mixup}, {op: cutmix}]",
)
ARGUMENTS = [part for override in OVERRIDES for part in ("--set", override)]


def start(arguments: list[str], run: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cvpipe", "train", *arguments, *ARGUMENTS, "--run", str(run)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_checkpoint(process: subprocess.Popen[str], run: Path) -> None:
    deadline = time.monotonic() + 120
    while not (run / "checkpoints" / "last.npz").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def checkpoint(run: Path, which: str) -> dict[str, bytes]:
    with np.load(run / "checkpoints" / f"{which}.npz") as arrays:
        return {name: arrays[name].tobytes() for name in arrays}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, small_arguments: list[str]) -> Path:
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    process = start(small_arguments, run)
    assert process.wait(timeout=240) == 0, process.communicate()[1]
    return run


@pytest.mark.parametrize(
    "how, code", [(signal.SIGINT, 75), (signal.SIGTERM, 75), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_stopped_run_goes_on_to_the_same_bits(
    tmp_path: Path, small_arguments: list[str], uninterrupted: Path, how: signal.Signals, code: int
) -> None:
    run = tmp_path / "run"
    process = start(small_arguments, run)
    wait_for_checkpoint(process, run)
    time.sleep(random.uniform(0, 1))  # a random step: whichever it is, the bits must be the same
    process.send_signal(how)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == code, err
    stopped_at = int.from_bytes(checkpoint(run, "last")["step"], sys.byteorder)
    assert 0 < stopped_at < int.from_bytes(checkpoint(uninterrupted, "last")["step"], sys.byteorder)
    if code == 75:
        assert f"stopped at step {stopped_at}" in err and "The same command resumes it" in err
    resumed = start(small_arguments, run)
    err = resumed.communicate(timeout=240)[1]
    assert resumed.returncode == 0, err
    assert f"resuming at step {stopped_at}" in err
    for which in ("last", "best", "snapshot-1", "snapshot-2"):
        assert checkpoint(run, which) == checkpoint(uninterrupted, which)
    for line, other in zip(validation_scores(run), validation_scores(uninterrupted), strict=True):
        assert line == other


def validation_scores(run: Path) -> list[str]:
    return [
        line
        for line in (run / "metrics.jsonl").read_text().splitlines()
        if '"split": "validation"' in line
    ]
