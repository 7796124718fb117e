"""Guards exact resume: a stopped run ends with the same bits as one that was never stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import DIGITS, SMALL, Once

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
# Dropout's state and, in the ResNet, BatchNorm's beside weights, momentum and averages.
NETWORKS = {
    "two_layer": "model={backbone: two_layer, dropout: 0.1}",
    "resnet20": "model={backbone: resnet20, width: 0.25, dropout: 0.1}",
}
STEPS = 13


def train(network: str, run: Path, *stop: str) -> tuple[int, str]:
    """Run `cvpipe train` in a process of its own, stopped as `stop` says: (exit code, stderr)."""
    overrides = [*SMALL, *OVERRIDES, NETWORKS[network]]
    arguments = [part for override in overrides for part in ("--set", override)]
    command = [str(Path(__file__).with_name("stopped.py")), *stop] if stop else ["-m", "cvpipe"]
    command += ["train", str(DIGITS), *arguments, "--run", str(run)]
    # With as many threads as users have: their order must not matter.
    env = {name: value for name, value in os.environ.items() if not name.startswith("TF_NUM_")}
    done = subprocess.run(
        [sys.executable, *command],
        env=env,
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
def uninterrupted(request: pytest.FixtureRequest, once: Once) -> tuple[str, Path]:
    """Return a network's name and the folder of its run that nothing stopped."""
    network = request.param

    def make(folder: Path) -> None:
        code, err = train(network, folder)
        assert code == 0, err

    return network, once(f"runs/uninterrupted-{network}", make)


def assert_the_same_run(run: Path, uninterrupted: Path) -> None:
    for which in ("last", "best", "snapshot-1", "snapshot-2"):
        assert checkpoint(run, which) == checkpoint(uninterrupted, which)
    assert validation_scores(run) == validation_scores(uninterrupted) != []


SIGTERM, KILLED = (("SIGTERM", 4, "after", 75),), (("SIGKILL", 9, "during", -9),)


@pytest.mark.parametrize(
    "uninterrupted, stops",
    [
        pytest.param("two_layer", SIGTERM, marks=pytest.mark.soak),
        ("two_layer", KILLED),
        *(
            pytest.param("resnet20", stops, marks=pytest.mark.soak)
            for stops in (
                SIGTERM,
                (("SIGINT", 4, "after", 75),),
                (("SIGTERM", 4, "during", 75),),
                (("SIGKILL", 4, "before", -9),),
                (("SIGKILL", 4, "during", -9),),
                (("SIGKILL", 4, "after", -9),),
            )
        ),
    ],
    indirect=["uninterrupted"],
)
def test_a_stopped_run_goes_on_to_the_same_bits(
    tmp_path: Path, uninterrupted: tuple[str, Path], stops: tuple[tuple[str, int, str, int], ...]
) -> None:
    (network, whole), run, resumed = uninterrupted, tmp_path / "run", None
    assert step_of(whole) == STEPS
    for name, step, moment, code in stops:
        given, err = train(network, run, name, str(step), moment)
        assert given == code, err
        assert resumed is None or f"resuming at step {resumed}" in err
        # A checkpoint that was not renamed yet is none.
        resumed = step - 1 if name == "SIGKILL" and moment != "after" else step
        assert step_of(run) == resumed
        if code == 75:
            assert f"stopped at step {resumed}" in err and "The same command resumes it" in err
    given, err = train(network, run)
    assert given == 0, err
    assert f"resuming at step {resumed}" in err
    assert_the_same_run(run, whole)


@pytest.mark.soak
@pytest.mark.parametrize("uninterrupted", ["resnet20"], indirect=True)
def test_a_run_killed_again_and_again_ends_with_the_same_bits(
    tmp_path: Path, uninterrupted: tuple[str, Path]
) -> None:
    network, whole = uninterrupted
    moments = ("before", "during", "after")
    for step in range(2, STEPS, 2):
        code, err = train(network, tmp_path, "SIGKILL", str(step), moments[step % 3])
        assert code == -9, err
    code, err = train(network, tmp_path)
    assert code == 0, err
    assert_the_same_run(tmp_path, whole)
