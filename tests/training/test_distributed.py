"""Guards distribution: several devices or processes train to the weights of one, batch by batch.

To float32 rounding, not to the bit: the batch's sums (of gradients, of BatchNorm's statistics) are
taken per replica and then over replicas, in another order than one device takes them. Dropout is
left out: each replica draws its own mask.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ARGUMENTS = [
    "--set",
    "model.dropout=0",
    "--set",
    "train.epochs=1",
    "--set",
    "optimizer.learning_rate=0.02",
]
# As many steps as can be compared: ReLUs near zero make rounding grow from step to step.
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


@pytest.mark.soak
@pytest.mark.parametrize("jobs", [("worker", "worker"), ("chief", "worker")])
def test_two_processes_train_to_the_weights_of_one_and_one_of_them_writes(
    tmp_path: Path, small_arguments: list[str], jobs: tuple[str, str]
) -> None:
    cluster: dict[str, list[str]] = {}
    tasks = []
    for job, port in zip(jobs, free_ports(2), strict=True):
        addresses = cluster.setdefault(job, [])
        tasks.append({"type": job, "index": len(addresses)})
        addresses.append(f"127.0.0.1:{port}")
    workers = [
        train(
            small_arguments,
            tmp_path / "two",
            {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})},
        )
        for task in tasks
    ]
    try:
        said = [finish(worker) for worker in workers]
        assert ["report.md" in out for out in said] == [True, False]
        assert "is written by the chief worker" in said[1]
    finally:
        for worker in workers:
            worker.kill()
    finish(train(small_arguments, tmp_path / "one", {}))
    assert_same_training(weights(tmp_path / "one"), weights(tmp_path / "two"))


# Limits far below the gradient's norm: clipped on each device, the sum would be too large.
CLIPPED_IN_PARTS = ["--set", "train.clip_norm=0.1", "--set", "train.accumulate=2"]


@pytest.mark.soak
def test_two_devices_that_clip_and_work_in_parts_train_to_the_weights_of_one(
    tmp_path: Path, small_arguments: list[str], cvpipe: Callable[..., tuple[int, str, str]]
) -> None:
    # Logical devices have to be made before TensorFlow starts, which a command of its own does.
    script = (
        "import tensorflow as tf, sys\n"
        "cpu = tf.config.list_physical_devices('CPU')[0]\n"
        "two = [tf.config.LogicalDeviceConfiguration()] * 2\n"
        "tf.config.set_logical_device_configuration(cpu, two)\n"
        "from cvpipe.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    small_arguments = [*small_arguments, *CLIPPED_IN_PARTS]
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
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    code, _, err = cvpipe("train", *small_arguments, *ARGUMENTS, *FEW, "--run", tmp_path / "one")
    assert code == 0, err
    assert_same_training(weights(tmp_path / "one"), weights(tmp_path / "two"))


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [server.getsockname()[1] for server in sockets]
    finally:
        for server in sockets:
            server.close()
