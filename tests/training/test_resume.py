"""Guards exact resume: a stopped run ends with the same bits as one that was never stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest

from conftest import DIGITS, ROOT, SMALL, Once

PIPELINES = ROOT / "pipelines"
# A checkpoint is saved after every step.
ALWAYS = ("train.steps_per_call=1", "train.checkpoint_minutes=1e-9", "train.pictures=false")
SCENES = "size: [64, 80], train: 44, validation: 8, test: 8"
SMALL_MAPS = ("prepare={size: [32, 32], resize: letterbox}", "model.width=0.25")
OTHERS = ("train.epochs=2", "train.batch_size=8", "schedule={kind: constant}", "train.ema=0.9")
# Restarts, snapshots, accumulated gradients and mixed images. The state holds weights, momentum,
# averages, dropout's seeds and, in the ResNet, BatchNorm's statistics.
DIGITS_OVERRIDES = (
    *SMALL,
    "train.epochs=2",
    "data.limit=200",
    "prepare.size=[8, 8]",
    "schedule={kind: restarts, cycle_epochs: 0.5, growth: 2, warmup_epochs: 0.5}",
    "train.snapshots=true",
    "train.accumulate=2",
    "mix=[{op: mixup}, {op: cutmix}]",
)
RUNS = {
    "two_layer": (DIGITS, (*DIGITS_OVERRIDES, "model={backbone: two_layer, dropout: 0.1}")),
    "resnet20": (
        DIGITS,
        (*DIGITS_OVERRIDES, "model={backbone: resnet20, width: 0.25, dropout: 0.1}"),
    ),
    "detection": (
        PIPELINES / "detection" / "digit_scenes_ssd.yaml",
        (
            *OTHERS,
            *SMALL_MAPS,
            f"data.source={{kind: digit_scenes, {SCENES}}}",
            "model.backbone=resnet8",
            "model.head={kind: ssd, strides: [2, 4]}",
        ),
    ),
    "segmentation": (
        PIPELINES / "segmentation" / "digit_scenes_fcn.yaml",
        (*OTHERS, f"data.source={{kind: digit_scenes, {SCENES}}}", "model.width=0.25"),
    ),
    "localization": (
        PIPELINES / "localization" / "digit_scenes.yaml",
        (
            *OTHERS,
            *SMALL_MAPS,
            f"data.source={{kind: digit_scenes, {SCENES}}}",
            "model.backbone=resnet8",
        ),
    ),
    "pose": (
        PIPELINES / "pose" / "stick_figures.yaml",
        (
            *OTHERS,
            *SMALL_MAPS,
            f"data.source={{kind: stick_figures, {SCENES}}}",
            "model.head={kind: heatmaps, start: 16, stride: 4}",
        ),
    ),
}
MOMENTS = ("before", "during", "after")
OTHER_TASKS = ("detection", "segmentation", "localization", "pose")


def train(name: str, run: Path, *stop: str) -> tuple[int, str]:
    """Run `cvpipe train` in a separate process, stopped as `stop` says: (exit code, stderr)."""
    pipeline, overrides = RUNS[name]
    arguments = [part for override in (*overrides, *ALWAYS) for part in ("--set", override)]
    command = [str(Path(__file__).with_name("stopped.py")), *stop] if stop else ["-m", "cvpipe"]
    command += ["train", str(pipeline), *arguments, "--run", str(run)]
    # With as many threads as users have: the order of threads must not matter.
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
    """Return the name of an entry of RUNS, and the folder of its run without a stop."""

    def make(folder: Path) -> None:
        code, err = train(request.param, folder)
        assert code == 0, err

    return request.param, once(f"runs/uninterrupted-{request.param}", make)


def assert_the_same_run(run: Path, uninterrupted: Path) -> None:
    files = [file.stem for file in (uninterrupted / "checkpoints").iterdir()]
    assert {"last", "best"} < set(files)
    for which in files:
        assert checkpoint(run, which) == checkpoint(uninterrupted, which)
    assert [file.stem for file in (run / "checkpoints").iterdir() if file.stem not in files] == []
    assert validation_scores(run) == validation_scores(uninterrupted) != []


@pytest.mark.parametrize(
    "uninterrupted, signal, step, moment",
    [
        ("two_layer", "SIGKILL", 9, "during"),
        *(
            pytest.param(*case, marks=pytest.mark.soak)
            for case in (
                ("two_layer", "SIGTERM", 4, "after"),
                ("resnet20", "SIGTERM", 4, "during"),
                ("resnet20", "SIGKILL", 4, "before"),
                ("detection", "SIGKILL", 5, "during"),
                ("segmentation", "SIGTERM", 4, "after"),
                ("localization", "SIGINT", 4, "after"),
                ("pose", "SIGKILL", 7, "after"),
            )
        ),
    ],
    indirect=["uninterrupted"],
)
def test_a_stopped_run_goes_on_to_the_same_bits(
    tmp_path: Path, uninterrupted: tuple[str, Path], signal: str, step: int, moment: str
) -> None:
    (name, whole), run = uninterrupted, tmp_path / "run"
    code, err = train(name, run, signal, str(step), moment)
    assert code == (-9 if signal == "SIGKILL" else 75), err
    # A checkpoint that wasn't renamed yet doesn't count.
    resumed = step - 1 if signal == "SIGKILL" and moment != "after" else step
    assert step_of(run) == resumed
    if code == 75:
        assert (
            f"stopped at step {resumed}" in err and "The same command resumes the training" in err
        )
    code, err = train(name, run)
    assert code == 0, err
    assert f"resuming at step {resumed}" in err
    assert_the_same_run(run, whole)


# CVPIPE_KILLS=20 kills the run of each task 20 times.
KILLS = int(os.environ.get("CVPIPE_KILLS", "0"))


@pytest.mark.soak
@pytest.mark.parametrize("uninterrupted", ["resnet20", *OTHER_TASKS], indirect=True)
def test_a_run_killed_again_and_again_ends_with_the_same_bits(
    tmp_path: Path, uninterrupted: tuple[str, Path]
) -> None:
    name, whole = uninterrupted
    steps, kills = step_of(whole), KILLS or (3 if name == "resnet20" else 0)
    if not kills:
        pytest.skip("one kill of this task stands above; CVPIPE_KILLS=20 makes so many here")
    random, made = Random(name), 0
    while made < kills:
        run = tmp_path / f"run{made}"
        for step in sorted(random.sample(range(1, steps), min(4, kills - made))):
            code, err = train(name, run, "SIGKILL", str(step), random.choice(MOMENTS))
            assert code == -9, err
            made += 1
        code, err = train(name, run)
        assert code == 0, err
        assert_the_same_run(run, whole)
