"""Guards a classifier from end to end: train, evaluate, export, serve, request answers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT, FindData, opened
from cvpipe import config_file
from cvpipe.data.known_splits import open_split
from cvpipe.data.stream import encoded_batches, evaluation_batches
from cvpipe.evaluation import ask
from cvpipe.export.artifact import open_artifact
from cvpipe.export.export import export
from cvpipe.export.score import evaluate_artifact
from cvpipe.serving.client import predict
from cvpipe.tasks.classification import encode
from cvpipe.training.report import evaluate_run
from cvpipe.training.run import Run
from cvpipe.training.train import train
from cvpipe.training.trained import load


@pytest.fixture(scope="module")
def address(artifact: Path) -> Iterator[str]:
    """Run `cvpipe serve` for the folder of the exported model; yield its URL."""
    command = [sys.executable, "-m", "cvpipe", "serve", str(artifact.parent.parent), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        line = next((line for line in server.stderr if "http://" in line), "")
        try:
            yield re.findall(r"http://[\d.:]+", line)[0]
        finally:
            server.terminate()
            assert server.wait(timeout=30) == 0


def test_the_server_gives_the_answers_of_the_evaluation(
    address: str, artifact: Path, trained_run: Path
) -> None:
    run = Run(trained_run)
    source = open_split(run.config, "test", run.known)
    encoded = next(iter(encoded_batches(source, run.config, encode, 32)))["bytes"]
    served = predict(f"{address}/v1/models/digits", [*encoded.numpy(), b"garbage"])
    expected = ask(opened(artifact), encoded)
    assert [answer["valid"] for answer in served] == [True] * 32 + [False]
    assert [answer["class_name"] for answer in served[:32]] == [
        name.decode() for name in expected["class_name"]
    ]
    np.testing.assert_allclose(
        [answer["probabilities"] for answer in served[:32]], expected["probabilities"], atol=1e-6
    )


@pytest.mark.soak
def test_a_run_and_its_artifact_agree_on_all_of_fashion_mnist(
    public_data: FindData, tmp_path: Path
) -> None:
    overrides = [
        f"data.source.path={public_data('fashion-mnist')}",
        "model.backbone=lenet5",
        "prepare.size=[32, 32]",
        "augment=[]",
        "optimizer.learning_rate=0.02",
        "train.epochs=1",
        "schedule.warmup_epochs=0",
        "data.validation=0",
        "train.pictures=false",
    ]
    config = config_file.load(
        ROOT / "pipelines" / "classification" / "fashion_mnist.yaml", overrides
    )
    assert train(config, tmp_path / "run")["accuracy"] > 0.7
    run, model = Run(tmp_path / "run"), tmp_path / "model"
    export(run, model)
    from_run, from_artifact = evaluate_run(run), evaluate_artifact(model / "1", "test")
    assert from_run["images"] == from_artifact["images"] == 10_000
    assert from_run["confusion_matrix"] == from_artifact["confusion_matrix"]
    assert probabilities_differ_by(run, model / "1") <= 1e-5


def probabilities_differ_by(run: Run, folder: Path) -> float:
    """Return the largest difference between the run's probabilities for prepared images and
    the artifact's for encoded ones.
    """
    trained, artifact = load(run), open_artifact(folder)
    source = open_split(trained.config, "test", run.known)
    prepared = evaluation_batches(source, trained.config, encode, None, 500)
    encoded = encoded_batches(source, trained.config, encode, 500)
    differences = [
        np.abs(
            trained.predict(one["image"])["probabilities"]
            - artifact(other["bytes"])["probabilities"]
        ).max()
        for one, other in zip(prepared, encoded, strict=True)
    ]
    return float(max(differences))
