"""Guards distribution: several devices or processes train to the weights of one, batch by batch.

The weights agree to float32 rounding, not bit for bit: sums over the batch (of gradients, of
BatchNorm's statistics) are computed per replica and then over replicas, in another order than on
one device. The network has no dropout, because each replica would draw its own mask.
"""

from __future__ import annotations

import json
import os
import signal as signals
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from ports import free_ports
from two_devices import run_on_two_devices

ARGUMENTS = [
    "--set",
    "model.dropout=0",
    "--set",
    "train.epochs=1",
    "--set",
    "optimizer.learning_rate=0.02",
]
# Few steps: rounding errors grow from step to step, because of ReLUs near zero.
FEW = ["--set", "data.test=0.9"]


def train(arguments: list[str], run: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "cvpipe",
        "train",
        *arguments,
        *ARGUMENTS,
        *FEW,
        "--run",
        str(run),
    ]
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", **environment}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out


def weights(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / "checkpoints" / "last.npz") as arrays:
        return dict(arrays)


def assert_same_training(one: dict[str, np.ndarray], several: dict[str, np.ndarray]) -> None:
    assert one.keys() == several.keys()
    assert one["step"] == several["step"] > 1
    for name, value in one.items():
        if "seed_generator" not in name:
            np.testing.assert_allclose(several[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


def start_all(arguments: list[str], run: Path, jobs: Sequence[str]) -> list[subprocess.Popen[str]]:
    """Start a training in a process for each of `jobs`."""
    cluster: dict[str, list[str]] = {}
    tasks = []
    for job, port in zip(jobs, free_ports(len(jobs)), strict=True):
        addresses = cluster.setdefault(job, [])
        tasks.append({"type": job, "index": len(addresses)})
        addresses.append(f"127.0.0.1:{port}")
    return [
        train(arguments, run, {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})})
        for task in tasks
    ]


def evaluated(run: Path) -> list[int]:
    """Return the numbers of images of each evaluation on the validation split."""
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row["images"] for row in rows if row["split"] == "validation"]


@pytest.mark.soak
@pytest.mark.parametrize(
    "jobs", [("worker", "worker"), ("chief", "worker", "worker", "worker")], ids=len
)
def test_processes_train_to_the_weights_of_one_share_evaluations_and_one_of_them_writes(
    tmp_path: Path, small_arguments: list[str], jobs: tuple[str, ...]
) -> None:
    workers = start_all(small_arguments, tmp_path / "several", jobs)
    try:
        said = [finish(worker) for worker in workers]
        assert ["report.md" in out for out in said] == [True, *[False] * (len(jobs) - 1)]
        assert all("is written by the chief worker" in out for out in said[1:])
    finally:
        for worker in workers:
            worker.kill()
    finish(train(small_arguments, tmp_path / "one", {}))
    assert_same_training(weights(tmp_path / "one"), weights(tmp_path / "several"))
    assert evaluated(tmp_path / "several") == evaluated(tmp_path / "one") != []


@pytest.mark.soak
def test_a_lost_worker_is_named_and_the_run_goes_on_to_the_same_bits_when_all_are_restarted(
    tmp_path: Path, small_arguments: list[str]
) -> None:
    arguments, jobs = [*small_arguments, "--set", "train.steps_per_call=1"], ("worker", "worker")

    def finished(run: Path) -> dict[str, bytes]:
        workers = start_all(arguments, run, jobs)
        try:
            for worker in workers:
                finish(worker)
        finally:
            for worker in workers:
                worker.kill()
        return {name: value.tobytes() for name, value in weights(run).items()}

    whole = finished(tmp_path / "whole")
    # A worker that stalls is noticed later than one that has ended, and its process still exists.
    for signal in (signals.SIGKILL, signals.SIGSTOP):
        run = tmp_path / signal.name
        workers = start_all(arguments, run, jobs)
        try:
            while not (run / "metrics.jsonl").exists():
                assert workers[0].poll() is None
                time.sleep(0.1)
            workers[1].send_signal(signal)
            _, err = workers[0].communicate(timeout=60)
            assert workers[0].returncode == 75, err
            assert "worker 1 (127.0.0.1:" in err and "no longer answers" in err
        finally:
            for worker in workers:
                worker.kill()
    assert finished(tmp_path / "SIGSTOP") == whole


# Limits far below the gradient's norm: clipped on each device, the sum would be too large.
CLIPPED_IN_PARTS = ["--set", "train.clip_norm=0.1", "--set", "train.accumulate=2"]


# An attack of radius 0, because each device draws its own start.
ATTACKED = ["--set", "train.adversarial={epsilon: 1.0e-9, steps: 2}"]


@pytest.mark.soak
@pytest.mark.parametrize("settings", [CLIPPED_IN_PARTS, ATTACKED], ids=["in parts", "attacked"])
def test_two_devices_train_to_the_weights_of_one(
    tmp_path: Path,
    small_arguments: list[str],
    cvpipe: Callable[..., tuple[int, str, str]],
    settings: list[str],
) -> None:
    script = "import sys\nfrom cvpipe.cli import main\nsys.exit(main(sys.argv[1:]))"
    small_arguments = [*small_arguments, *settings]
    arguments = [
        "train",
        *small_arguments,
        *ARGUMENTS,
        *FEW,
        "--set",
        "train.strategy=mirrored",
        "--run",
        str(tmp_path / "two"),
    ]
    run_on_two_devices(script, *arguments, TF_ENABLE_ONEDNN_OPTS="1")
    code, _, err = cvpipe("train", *small_arguments, *ARGUMENTS, *FEW, "--run", tmp_path / "one")
    assert code == 0, err
    assert_same_training(weights(tmp_path / "one"), weights(tmp_path / "two"))
