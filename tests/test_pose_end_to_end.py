"""Guards a pose network from end to end: train, evaluate, export, predict."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from conftest import ROOT, Once, opened, soaked
from cvpipe import config_file
from cvpipe.data.sources.stick_figures import JOINTS
from cvpipe.evaluation import ask
from cvpipe.export.about import read_about
from cvpipe.export.export import export
from cvpipe.export.score import evaluate_artifact
from cvpipe.training.report import evaluate_run
from cvpipe.training.run import Run
from cvpipe.training.train import train

TINY = (
    "data.source={kind: stick_figures, size: [64, 80], train: 32, validation: 8, test: 12}",
    "prepare={size: [32, 32], resize: letterbox}",
    "model.width=0.125",
    "train.epochs=2",
    "train.batch_size=8",
    "schedule={kind: constant}",
)
HEADS = {
    "heatmaps": ("model.head={kind: heatmaps, start: 16, stride: 4}",),
    "regression": ("model.head={kind: regression}", "loss={kind: smooth_l1}"),
}


@pytest.fixture(scope="session", params=["heatmaps", *soaked("regression")])
def run(request: pytest.FixtureRequest, once: Once) -> Run:
    """A finished run of a tiny pose network."""
    pipeline = ROOT / "pipelines" / "pose" / "stick_figures.yaml"
    config = config_file.load(pipeline, [*TINY, *HEADS[request.param]])

    def make(folder: Path) -> None:
        scores = train(config, folder)
        assert scores["figures"] == 12 and np.isfinite(scores["pck"])

    return Run(once(f"runs/pose_{request.param}", make))


@pytest.fixture
def exported(run: Run, once: Once, gate_in_this_process: None) -> Path:
    """The folder of the version exported from `run`."""
    return once(f"saved/{run.folder.name}/figures", lambda folder: export(run, folder)) / "1"


def test_a_run_leaves_a_report_with_pictures(run: Run) -> None:
    report = run.report("test").read_text(encoding="utf-8")
    for word in ("pck", "oks_ap", "Keypoint pck", "Predictions"):
        assert word in report
    drawn = {path.stem for path in run.pictures("test").glob("*.png")}
    assert drawn >= {"predictions", "keypoint_pck", "curves"}


# The folded regression differs by more than the gate allows, so it is exported as trained.
@pytest.mark.soak
@pytest.mark.parametrize("run", ["heatmaps"], indirect=True)
def test_the_exported_network_is_folded(exported: Path) -> None:
    assert read_about(exported)["gate"]["folded"]


@pytest.mark.soak
def test_the_artifact_scores_as_the_run_does(run: Run, exported: Path, tmp_path: Path) -> None:
    # Evaluate a copy, because evaluation writes a report into the run.
    copied = Run(Path(shutil.copytree(run.folder, tmp_path / "run")))
    from_run, from_artifact = evaluate_run(copied), evaluate_artifact(exported, "test")
    for name in ("images", "keypoints", "pck", "mean_error", "oks_ap"):
        assert from_run[name] == pytest.approx(from_artifact[name], abs=1e-5), name


@pytest.mark.soak
def test_one_artifact_answers_images_of_any_size_in_their_own_pixels(exported: Path) -> None:
    sizes = [(40, 300), (300, 40), (1, 500), (64, 64)]
    random = np.random.default_rng(0)
    images = [
        tf.io.encode_png(random.integers(0, 256, (*size, 3), np.uint8)).numpy() for size in sizes
    ]
    answers = ask(opened(exported), tf.constant([*images, b"no image"]))
    assert answers["valid"].tolist() == [True] * 4 + [False]
    assert answers["image_size"][:4].tolist() == [list(size) for size in sizes]
    assert answers["keypoint_names"][0].tolist() == [name.encode() for name in JOINTS]
    for n, size in enumerate(sizes):
        points = answers["keypoints"][n]
        assert points.shape == (len(JOINTS), 2) and np.isfinite(points).all()
        assert (points >= 0).all() and (points <= size).all()


@pytest.mark.soak
def test_predict_prints_named_points_and_draws_them(
    exported: Path, tmp_path: Path, cvpipe: Callable[..., tuple[int, str, str]]
) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (50, 70, 3), np.uint8)
    (tmp_path / "one.png").write_bytes(tf.io.encode_png(noise).numpy())
    code, out, err = cvpipe("predict", exported, tmp_path / "one.png", "--draw", tmp_path / "drawn")
    assert code == 0, err
    answer = json.loads(out)
    assert [point["name"] for point in answer["keypoints"]] == list(JOINTS)
    assert answer["image_size"] == [50, 70]
    assert (tmp_path / "drawn" / "one.png.prediction.png").is_file()
