"""Guards an anomaly detector from end to end: train, resume, evaluate, export, predict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from conftest import ROOT, Once, opened
from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.errors import ConfigError
from cvpipe.evaluation import ask
from cvpipe.export.about import read_about
from cvpipe.export.export import export
from cvpipe.export.score import evaluate_artifact
from cvpipe.training.checkpoints import read_checkpoint
from cvpipe.training.run import Run
from cvpipe.training.train import train

TINY = (
    "data.source={kind: scratched_digits, size: [48, 64], train: 12, validation: 4, test: 8}",
    "prepare={size: [32, 32]}",
    "model={backbone: resnet18, width: 0.125, head: {kind: patchcore, bank: 20}}",
    "train.batch_size=4",
)


def tiny(*overrides: str) -> Config:
    pipeline = ROOT / "pipelines" / "anomaly" / "scratched_digits.yaml"
    return config_file.load(pipeline, [*TINY, *overrides])


@pytest.fixture(scope="session")
def run(once: Once) -> Run:
    """Train a tiny anomaly detector."""

    def make(folder: Path) -> None:
        scores = train(tiny(), folder)
        assert (scores["images"], scores["anomalies"]) == (8, 4)
        assert 0 <= scores["image_auroc"] <= 1 and 0 <= scores["pixel_auroc"] <= 1

    return Run(once("runs/scratched", make))


@pytest.fixture
def exported(run: Run, once: Once, gate_in_this_process: None) -> Path:
    """Export `run`; return the folder of the exported version."""
    return once("saved/scratched", lambda folder: export(run, folder)) / "1"


def test_a_run_leaves_a_report_with_pictures_and_a_threshold(run: Run) -> None:
    report = run.report("test").read_text(encoding="utf-8")
    for word in ("image_auroc", "pixel_auroc", "scratch", "Image scores", "Predictions"):
        assert word in report
    drawn = {path.stem for path in run.pictures("test").glob("*.png")}
    assert drawn >= {"predictions", "image_scores"}
    arrays = read_checkpoint(run.checkpoint("best"))
    [threshold] = [value for name, value in arrays.items() if name.endswith("threshold")]
    assert np.isfinite(threshold) and threshold > 0


@pytest.mark.soak
def test_a_resumed_run_has_the_same_bits_as_an_uninterrupted_run(run: Run, tmp_path: Path) -> None:
    train(tiny("train.epochs=2", "train.pictures=false"), tmp_path / "whole")
    train(tiny("train.pictures=false"), tmp_path / "parts")
    train(tiny("train.epochs=2", "train.pictures=false"), tmp_path / "parts")
    whole, parts = (
        read_checkpoint(Run(tmp_path / name).checkpoint("last")) for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(parts[name], value, err_msg=name)


@pytest.mark.soak
def test_the_artifact_answers_images_of_any_size_and_has_the_scores_of_the_run(
    run: Run, exported: Path
) -> None:
    measured = json.loads(run.scores_file("test").read_text())["measured"]
    assert read_about(exported)["gate"]["folded"]
    from_artifact = evaluate_artifact(exported, "test")
    for name in ("images", "image_auroc", "pixel_auroc", "recall", "false_alarms"):
        assert from_artifact[name] == pytest.approx(measured[name], abs=1e-3), name
    images = [
        tf.io.encode_png(np.full((*size, 3), 90, np.uint8)).numpy() for size in [(40, 90), (20, 30)]
    ]
    answers = ask(opened(exported), tf.constant([*images, b"no image"]))
    assert answers["valid"].tolist() == [True, True, False]
    assert answers["heat_map"].shape == (3, 40, 90)
    assert (answers["heat_map"][1, :20, :30] >= 0).all()
    assert (answers["heat_map"][1, 20:] == -1).all()


@pytest.mark.soak
def test_predict_prints_the_anomaly_score_and_draws_the_heat_map(
    exported: Path, tmp_path: Path, cvpipe: Callable[..., tuple[int, str, str]]
) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (50, 70, 3), np.uint8)
    (tmp_path / "one.png").write_bytes(tf.io.encode_png(noise).numpy())
    code, out, err = cvpipe("predict", exported, tmp_path / "one.png", "--draw", tmp_path / "drawn")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["is_anomalous"] == (answer["anomaly_score"] > answer["anomaly_threshold"])
    assert answer["image_size"] == [50, 70] and answer["heat_map"]["b64"]
    assert (tmp_path / "drawn" / "one.png.prediction.png").is_file()


def test_without_validation_images_there_is_no_threshold(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "data" / split / "good").mkdir(parents=True)
        pixels = np.full((32, 32, 3), 90, np.uint8)
        content = tf.io.encode_png(pixels + len(split)).numpy()
        (tmp_path / "data" / split / "good" / f"{split}.png").write_bytes(content)
    source = f"data.source={{kind: mvtec, path: {tmp_path / 'data'}}}"
    with pytest.raises(
        ConfigError, match="needs a validation split, on which the network is calibrated"
    ):
        train(tiny(source), tmp_path / "run")
