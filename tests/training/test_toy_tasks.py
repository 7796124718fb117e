"""Guards a task with two networks and two optimizers, and one whose targets are also inputs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import cvpipe.config
import cvpipe.tasks
from conftest import ROOT, Once
from cvpipe.export.artifact import open_artifact
from cvpipe.export.export import export
from cvpipe.training.checkpoints import read_checkpoint
from cvpipe.training.run import Run
from cvpipe.training.train import train
from toy_tasks import register, toy_config

STEPS = 200


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """Make the toy tasks known to the package for the tests of this file."""
    pipeline, path = cvpipe.config.Pipeline, list(cvpipe.tasks.__path__)
    register()
    yield
    cvpipe.config.Pipeline, cvpipe.tasks.__path__[:] = pipeline, path


@pytest.fixture(scope="module")
def gan_run(registered: None, once: Once) -> Run:
    """A finished run of the GAN."""
    return Run(once("runs/gan", lambda folder: train(toy_config("gan"), folder)))


@pytest.fixture(scope="module")
def spelling_run(registered: None, once: Once) -> Run:
    """A finished run of spelling."""
    return Run(once("runs/spelling", lambda folder: train(toy_config("spelling"), folder)))


def last(run: Run) -> dict[str, Any]:
    return read_checkpoint(run.checkpoint("last"))


def test_two_networks_learn_by_an_optimizer_each(gan_run: Run) -> None:
    arrays = last(gan_run)
    assert int(arrays["step"]) == STEPS
    for name in ("generator", "discriminator"):
        assert any(key.startswith(f"networks/{name}/") for key in arrays)
        [count] = [
            value
            for key, value in arrays.items()
            if key.startswith(f"optimizers/{name}/") and key.endswith("/iteration")
        ]
        assert int(count) == STEPS
    rows = [row for row in gan_run.metrics() if row["split"] == "train"]
    assert {"real", "fake", "fooled", "loss"} <= rows[-1].keys()
    assert rows[-1]["loss"] == pytest.approx(
        sum(rows[-1][part] for part in ("real", "fake", "fooled")), rel=1e-4
    )


def test_the_best_checkpoint_has_the_lowest_score_where_low_is_good(gan_run: Run) -> None:
    rows = [row for row in gan_run.metrics() if row["split"] == "validation"]
    best = min(rows, key=lambda row: (row["certainty"], -row["step"]))
    assert int(read_checkpoint(gan_run.checkpoint("best"))["step"]) == best["step"]


@pytest.mark.soak
def test_a_killed_run_of_two_networks_ends_with_the_same_bits(gan_run: Run, tmp_path: Path) -> None:
    script = ROOT / "tests" / "toy_tasks" / "train.py"
    command = [sys.executable, str(script), str(tmp_path / "run"), "gan"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(
        [*command, "SIGKILL", "70", "after"], env=environment, capture_output=True, check=False
    )
    assert killed.returncode == -9, killed.stderr.decode()
    assert int(last(Run(tmp_path / "run"))["step"]) == 70
    resumed = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert resumed.returncode == 0, resumed.stderr.decode()
    expected, given = last(gan_run), last(Run(tmp_path / "run"))
    assert expected.keys() == given.keys()
    for name, value in expected.items():
        assert value.tobytes() == given[name].tobytes(), name


@pytest.mark.soak
def test_a_generator_is_exported_as_an_artifact_that_samples(gan_run: Run, tmp_path: Path) -> None:
    result = export(gan_run, tmp_path / "gan")
    loaded = tf.saved_model.load(result["artifact"])
    sample = loaded.signatures["serving_default"]
    images = [
        sample(seed=tf.constant([seed, 0], tf.int64), count=tf.constant(3))["image"].numpy()
        for seed in (1, 1, 2)
    ]
    assert images[0].shape == (3, 8, 8, 1)
    np.testing.assert_array_equal(images[0], images[1])
    assert abs(images[0] - images[2]).max() > 0.1
    assert open_artifact(Path(result["artifact"])).config.task == "gan"


@pytest.mark.soak
def test_an_artifact_with_other_samples_is_refused(
    gan_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cvpipe.errors import UserError
    from cvpipe.export import gate

    replay = gate._replay

    def moved(artifact: Path, requests: Any) -> dict[str, np.ndarray]:
        return {
            name: value + np.float32(1e-3) for name, value in replay(artifact, requests).items()
        }

    monkeypatch.setattr(gate, "_replay", moved)
    with pytest.raises(UserError, match="image .* differs from evaluation by"):
        export(gan_run, tmp_path / "gan")
    assert not (tmp_path / "gan").exists()


def test_a_network_learns_from_its_own_targets(spelling_run: Run) -> None:
    rows = [row for row in spelling_run.metrics() if row["split"] == "validation"]
    assert rows[-1]["right"] > 0.5
    assert spelling_run.known["examples"]["train"] == 640


@pytest.mark.soak
def test_spelling_answers_encoded_images(spelling_run: Run, tmp_path: Path) -> None:
    artifact = open_artifact(Path(export(spelling_run, tmp_path / "spelling")["artifact"]))
    image = tf.io.encode_png(tf.zeros([8, 8, 1], tf.uint8))
    answers = artifact(tf.stack([image, image, tf.constant(b"none")]))
    assert answers["valid"].numpy().tolist() == [True, True, False]
    assert answers["name"].numpy()[0] == answers["name"].numpy()[1] != b""
