"""Guards training on a Ray cluster: shares of machines, faults, and the weights of two workers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT
from cvpipe import cli
from cvpipe.errors import ConfigError
from cvpipe.training.ray_train import resources_per_worker
from ports import free_ports

DIGITS = str(ROOT / "pipelines" / "classification" / "digits.yaml")


@pytest.mark.parametrize(
    ("nodes", "workers", "share"),
    [
        ([{"CPU": 8.0}], 1, {"CPU": 8.0}),
        ([{"CPU": 8.0}, {"CPU": 8.0}], 2, {"CPU": 8.0}),
        ([{"CPU": 8.0}, {"CPU": 8.0}], 3, {"CPU": 4.0}),
        ([{"CPU": 6.0}, {"CPU": 3.0}], 3, {"CPU": 3.0}),
        ([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 4.0}], 8, {"CPU": 4.0, "GPU": 1.0}),
        ([{"CPU": 16.0, "GPU": 1.0}, {"CPU": 16.0}], 2, {"CPU": 16.0}),
    ],
)
def test_each_worker_gets_the_largest_share_that_every_worker_can_have(
    nodes: list[dict[str, float]], workers: int, share: dict[str, float]
) -> None:
    assert resources_per_worker(nodes, workers) == share


def test_more_workers_than_cores_are_refused() -> None:
    with pytest.raises(ConfigError, match="5 workers on 4 cores; each needs at least one"):
        resources_per_worker([{"CPU": 3.0}, {"CPU": 1.0}], 5)


@pytest.mark.parametrize(
    ("words", "says"),
    [(["--ray", "0"], "0 is not a number of workers"), (["--ray", "2", "--fresh"], "begin anew")],
)
def test_options_that_cannot_be_followed_are_refused(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", DIGITS, *words]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.soak
@pytest.mark.skipif(
    not importlib.util.find_spec("ray"), reason="ray is not installed: pip install cvpipe[ray]"
)
def test_two_workers_of_ray_train_to_the_bits_of_two_processes(tmp_path: Path) -> None:
    settings = {
        "model.dropout": "0",
        "schedule.warmup_epochs": "0",
        "train.epochs": "1",
        "data.test": "0.9",
    }
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "cvpipe", "train", DIGITS, *words, "--run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [*command, str(tmp_path / "ray"), "--ray", "2"], check=True, env=environment, cwd=tmp_path
    )
    addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports(2))
    processes = [
        subprocess.Popen(
            [*command, str(tmp_path / "processes")],
            cwd=tmp_path,
            env={**environment, "CVPIPE_WORKERS": addresses, "CVPIPE_WORKER_INDEX": str(index)},
        )
        for index in range(2)
    ]
    assert [process.wait(300) for process in processes] == [0, 0]
    with (
        np.load(tmp_path / "ray" / "checkpoints" / "last.npz") as ours,
        np.load(tmp_path / "processes" / "checkpoints" / "last.npz") as wanted,
    ):
        assert ours.keys() == wanted.keys() and int(wanted["step"]) > 1
        for name in wanted:
            np.testing.assert_array_equal(ours[name], wanted[name], err_msg=name)
