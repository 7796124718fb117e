"""Guards a localizer from end to end: train, evaluate, export, predict."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from conftest import ROOT, Once, opened
from cvpipe import config_file
from cvpipe.evaluation import ask
from cvpipe.export.about import read_about
from cvpipe.export.export import export
from cvpipe.export.score import evaluate_artifact
from cvpipe.training.report import evaluate_run
from cvpipe.training.run import Run
from cvpipe.training.train import train

PIPELINE = ROOT / "pipelines" / "localization" / "digit_scenes.yaml"
TINY = (
    "data.source={kind: digit_scenes, size: [96, 128], train: 48, validation: 8, test: 12}",
    "augment=[{op: flip}, {op: iou_crop}]",
    "prepare={size: [32, 32], resize: letterbox}",
    "model.backbone=resnet8",
    "model.width=0.25",
    "train.epochs=2",
    "train.batch_size=8",
    "train.pictures=true",
    "schedule={kind: constant}",
)


@pytest.fixture(scope="session")
def run(once: Once) -> Run:
    """Train a tiny localizer on scenes of which most show several digits."""
    config = config_file.load(PIPELINE, list(TINY))

    def make(folder: Path) -> None:
        scores = train(config, folder)
        assert scores["images"] == 12 and 0 < scores["mean_iou"] < 1

    return Run(once("runs/localization", make))


@pytest.fixture
def exported(run: Run, once: Once, gate_in_this_process: None) -> Path:
    """Export `run`; return the folder of the exported version."""
    return once("saved/localization/scenes", lambda folder: export(run, folder)) / "1"


def test_a_run_leaves_a_report_with_pictures(run: Run) -> None:
    report = run.report("test").read_text(encoding="utf-8")
    for word in ("localization_error", "Mistakes", "Calibration", "Predictions", "Per class"):
        assert word in report
    assert {path.stem for path in run.pictures("test").glob("*.png")} == {
        "predictions",
        "confusion_matrix",
        "calibration",
        "mistakes",
        "curves",
    }


@pytest.mark.soak
def test_the_artifact_scores_as_the_run_does(run: Run, exported: Path, tmp_path: Path) -> None:
    # A copy, since evaluation writes a report into the run.
    copied = Run(Path(shutil.copytree(run.folder, tmp_path / "run")))
    from_run, from_artifact = evaluate_run(copied), evaluate_artifact(exported, "test")
    assert read_about(exported)["gate"]["folded"]
    for name in ("images", "localization_accuracy", "accuracy", "mean_iou", "loss"):
        assert from_run[name] == pytest.approx(from_artifact[name], abs=1e-5), name


@pytest.mark.soak
def test_one_artifact_answers_images_of_different_sizes_in_their_own_pixels(exported: Path) -> None:
    sizes = [(40, 300), (300, 40), (1, 5000), (64, 64)]
    random = np.random.default_rng(0)
    images = [
        tf.io.encode_png(random.integers(0, 256, (*size, 3), np.uint8)).numpy() for size in sizes
    ]
    answers = ask(opened(exported), tf.constant([*images, b"no image"]))
    assert answers["valid"].tolist() == [True] * 4 + [False]
    for n, size in enumerate(sizes):
        assert answers["image_size"][n].tolist() == list(size)
        low, high = np.split(answers["box"][n], 2)
        assert (low >= 0).all() and (low < high).all() and (high <= size).all()
        assert answers["class_name"][n].decode() == str(answers["class_id"][n])


def test_predict_prints_and_draws_the_object(
    exported: Path, tmp_path: Path, cvpipe: Callable[..., tuple[int, str, str]]
) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (50, 80, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    code, out, _ = cvpipe("predict", exported, tmp_path / "noise.png", "--draw", tmp_path / "drawn")
    answer = json.loads(out)
    assert code == 0 and answer["image_size"] == [50, 80]
    assert set(answer["box"]) == {"ymin", "xmin", "ymax", "xmax"}
    assert answer["top"][0]["class_name"] == answer["class_name"]
    assert (tmp_path / "drawn" / "noise.png.prediction.png").is_file()


def test_data_check_shows_the_object_of_each_image(
    tmp_path: Path, cvpipe: Callable[..., tuple[int, str, str]]
) -> None:
    pairs = [part for override in TINY for part in ("--set", override)]
    code, out, _ = cvpipe("data", "check", PIPELINE, *pairs, "--to", tmp_path / "check", "--json")
    assert code == 0 and json.loads(out)["clean"]
    assert (tmp_path / "check" / "contact_sheet.png").is_file()
