"""Guards a detector from end to end: train, evaluate, export, predict, serve."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import yaml
from PIL import Image

from conftest import ROOT, Once, opened, soaked
from cvpipe import config_file
from cvpipe.data.known_splits import open_split
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import open_splits
from cvpipe.data.stream import encoded_batches, evaluation_batches, training_batches
from cvpipe.evaluation import ask
from cvpipe.export.about import read_about
from cvpipe.export.card import CARD
from cvpipe.export.export import export, export_members
from cvpipe.export.score import evaluate_artifact
from cvpipe.serving import rest
from cvpipe.serving.models import load_servable
from cvpipe.tasks import load_task
from cvpipe.training.build import build_state
from cvpipe.training.ensemble import find_members
from cvpipe.training.report import evaluate_run
from cvpipe.training.run import Run
from cvpipe.training.sanity.case import SanityCase, some_examples, without_regularization
from cvpipe.training.sanity.gradient_check import gradient_check
from cvpipe.training.train import train
from cvpipe.training.trained import load
from test_notebooks import execute, pictures

TINY = (
    "data.source={kind: digit_scenes, size: [96, 128], train: 48, validation: 8, test: 12}",
    "prepare={size: [32, 32], resize: letterbox}",
    "model.backbone=resnet8",
    "model.width=0.25",
    "train.epochs=2",
    "train.batch_size=8",
    "train.pictures=true",
    "schedule={kind: constant}",
)
# Without this limit, a hardly trained network returns many boxes with nearly equal scores, so that
# their order is random.
FEW_ANSWERS = "model.head.suppress.max_detections=20"
HEADS = {
    "ssd": ("model.head={kind: ssd, strides: [2, 4]}",),
    "yolo": (
        "prepare={size: [64, 64], resize: letterbox}",
        "model.backbone=resnet18",
        "model.width=0.125",
        "model.head={kind: yolo_v3, strides: [16], anchors: [[0.2, 0.15], [0.3, 0.25]]}",
        # With the papers' weight, a network trained for a few steps finds nothing.
        "loss={kind: yolo, empty_weight: 0.05}",
    ),
}


@pytest.fixture(scope="session", params=["ssd", *soaked("yolo")])
def run(request: pytest.FixtureRequest, once: Once) -> Run:
    """Train a tiny detector."""
    config = config_file.load(
        ROOT / "pipelines" / "detection" / "digit_scenes_ssd.yaml",
        [*TINY, *HEADS[request.param], FEW_ANSWERS],
    )

    def make(folder: Path) -> None:
        scores = train(config, folder)
        assert scores["images"] == 12 and np.isfinite(scores["ap"])

    return Run(once(f"runs/detection_{request.param}", make))


@pytest.fixture
def exported(run: Run, once: Once, gate_in_this_process: None) -> Path:
    """Export `run`; return the folder of the exported version."""
    return once(f"saved/{run.folder.name}/scenes", lambda folder: export(run, folder)) / "1"


def test_a_run_leaves_a_report_with_pictures(run: Run) -> None:
    report = run.report("test").read_text(encoding="utf-8")
    for word in ("ap50", "Precision recall", "Errors", "Predictions", "Per class"):
        assert word in report
    assert {path.stem for path in run.pictures("test").glob("*.png")} >= {
        "predictions",
        "precision_recall",
        "errors",
        "curves",
    }


def test_the_export_passes_the_gate_with_folded_norms(exported: Path) -> None:
    gate = read_about(exported)["gate"]
    assert gate["max_difference"] <= 1e-5 and gate["folded"]


@pytest.mark.soak
@pytest.mark.parametrize("run", ["ssd"], indirect=True)
def test_the_export_passes_the_gate_in_a_new_process(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path)
    assert read_about(tmp_path / "1")["gate"]["max_difference"] <= 1e-5


def test_the_artifact_scores_as_the_run_does(run: Run, exported: Path, tmp_path: Path) -> None:
    # A copy, since evaluation writes a report into the run.
    copied = Run(Path(shutil.copytree(run.folder, tmp_path / "run")))
    from_run, from_artifact = evaluate_run(copied), evaluate_artifact(exported, "test")
    for name in ("images", "objects", "ap", "ap50", "ar100"):
        assert from_run[name] == pytest.approx(from_artifact[name], abs=1e-6), name


@pytest.mark.soak
@pytest.mark.parametrize("run", ["ssd"], indirect=True)
def test_without_a_best_threshold_an_export_warns_and_keeps_the_thresholds_of_the_run(
    run: Run, tmp_path: Path, gate_in_this_process: None, caplog: pytest.LogCaptureFixture
) -> None:
    # The run is too short for a right answer on its validation split.
    result = export_members(find_members([run]), tmp_path, best_threshold=True)
    about = read_about(tmp_path / "1")
    assert result["thresholds"] == about["thresholds"] == []
    assert "no class has a best threshold and the run's thresholds are kept" in caplog.text
    kept = run.config.to_json()["model"]["head"]["suppress"]["class_thresholds"]
    assert about["config"]["model"]["head"]["suppress"]["class_thresholds"] == kept
    assert evaluate_artifact(tmp_path / "1", "test")["ap"] == pytest.approx(
        about["measured"]["test"]["ap"], abs=1e-6
    )


@pytest.mark.soak
@pytest.mark.parametrize("run", ["ssd"], indirect=True)
def test_scores_and_pictures_of_the_run_arent_those_of_an_export_with_other_thresholds(
    run: Run, tmp_path: Path, gate_in_this_process: None
) -> None:
    copied = Run(Path(shutil.copytree(run.folder, tmp_path / "run")))
    report = json.loads(copied.scores_file("test").read_text())
    report["measured"]["ap50"] = 0.5
    copied.scores_file("test").write_text(json.dumps(report))
    thresholds = dict.fromkeys(run.facts.class_names, 0.9)
    for number, (given, reported) in enumerate(((thresholds, False), ({}, True)), 1):
        overrides = [f"model.head.suppress.class_thresholds={given}"]
        export(copied, tmp_path / "model", overrides)
        version = tmp_path / "model" / str(number)
        assert (read_about(version)["measured"]["test"]["ap50"] == 0.5) is reported
        assert bool(list((version / CARD.parent).rglob("*.png"))) is reported
    scores = read_about(tmp_path / "model" / "1")["measured"]["test"]
    assert scores["ap50"] == evaluate_artifact(tmp_path / "model" / "1", "test")["ap50"]


def test_boxes_for_encoded_images_equal_those_of_evaluation(run: Run, exported: Path) -> None:
    trained, artifact = load(run), opened(exported)
    source, encode = open_split(trained.config, "test", run.known), trained.task.encode
    batch = next(iter(evaluation_batches(source, trained.config, encode, None, 12)))
    encoded = next(iter(encoded_batches(source, trained.config, encode, 12)))["bytes"]
    expected, given = (
        ask(trained.predict, batch["image"], batch["extent"]),
        ask(artifact, encoded),
    )
    np.testing.assert_allclose(given["boxes"], expected["boxes"], atol=1e-3)
    np.testing.assert_allclose(given["scores"], expected["scores"], atol=1e-5)
    assert given["image_size"].tolist() == [[96, 128]] * 12


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
        boxes = answers["boxes"][n, : answers["count"][n]]
        assert (boxes >= 0).all() and (boxes <= np.tile(size, 2)).all()


def test_a_served_detector_takes_thresholds_and_has_defaults_for_them(exported: Path) -> None:
    servable = load_servable(exported)
    image = tf.io.encode_png(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    coded = {
        "b64": (
            tf.io.encode_base64(image, pad=True)
            .numpy()
            .decode()
            .replace("-", "+")
            .replace("_", "/")
        )
    }

    def served(inputs: Any) -> dict[str, Any]:
        request = rest.parse_request(json.dumps(inputs).encode())
        tensors = rest.to_tensors(
            request, servable.input_specs("serving_default"), servable.defaults("serving_default")
        )
        return servable.signatures["serving_default"](**tensors)

    by_default = served({"instances": [coded]})
    few = int(by_default["count"][0]) - 1
    assert few > 0
    fewer = served({"inputs": {"image_bytes": [coded], "max_detections": few}})
    np.testing.assert_array_equal(fewer["scores"][0, :few], by_default["scores"][0, :few])
    assert int(fewer["count"][0]) == few
    assert (
        int(served({"inputs": {"image_bytes": [coded], "score_threshold": 1.0}})["count"][0]) == 0
    )
    row = {"image_bytes": coded, "max_detections": few}
    np.testing.assert_array_equal(served({"instances": [row, row]})["count"], [few, few])
    with pytest.raises(rest.RequestError, match="unknown input"):
        served({"inputs": {"image_bytes": [coded], "threshold": 1.0}})


def test_predict_prints_and_draws_objects(
    exported: Path, tmp_path: Path, cvpipe: Callable[..., tuple[int, str, str]]
) -> None:
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (50, 80, 3), np.uint8)).save(
        tmp_path / "noise.png"
    )
    code, out, _ = cvpipe("predict", exported, tmp_path / "noise.png", "--draw", tmp_path / "drawn")
    answer = json.loads(out)
    assert code == 0 and answer["count"] == len(answer["objects"])
    assert answer["picture"] == str(tmp_path / "drawn" / "noise.png.prediction.png")
    assert Path(answer["picture"]).is_file()
    for found in answer["objects"]:
        box = found["box"]
        assert 0 <= box["ymin"] <= box["ymax"] <= 50 and 0 <= box["xmin"] <= box["xmax"] <= 80


@pytest.mark.soak
def test_predict_has_an_option_for_every_setting_of_the_artifact(
    exported: Path, tmp_path: Path, cvpipe: Callable[..., tuple[int, str, str]]
) -> None:
    image = tmp_path / "noise.png"
    pixels = np.random.default_rng(2).integers(0, 256, (50, 80, 3), np.uint8)
    Image.fromarray(pixels).save(image)

    def objects(*words: Any) -> list[dict[str, Any]]:
        code, out, err = cvpipe("predict", *words)
        assert code == 0, err
        return json.loads(out)["objects"]

    every = objects(exported, image, "--score-threshold", 0)
    assert len(every) > 3
    lowest = every[2]["score"] - 1e-6
    found = objects("--score-threshold", lowest, exported.parent, "--max-detections", 2, image)
    assert found == every[:2]
    assert objects(exported, "--score-threshold", lowest, image) == [
        found for found in every if found["score"] >= lowest
    ]
    code, out, _ = cvpipe("predict", exported, "--help")
    assert code == 0
    for word in ("--score-threshold NUMBER", "--iou-threshold NUMBER", "(default: 20)"):
        assert word in " ".join(out.split())
    assert '{"ymin": top, "xmin": left, "ymax": bottom, "xmax": right}' in out
    code, _, err = cvpipe("predict", exported, image, "--score-threshold", "high")
    assert code == 2 and "invalid float value: 'high'" in err
    for name, value, wanted in (
        ("--max-detections", -2, "a whole number of at least 1"),
        ("--score-threshold", 7, "a number from 0 to 1"),
        ("--iou-threshold", "nan", "a number from 0 to 1"),
    ):
        code, _, err = cvpipe("predict", exported, image, name, value)
        assert code == 2 and f"{name} {value}: give {wanted}" in err
    code, _, err = cvpipe("predict", exported, image, "--masks", tmp_path)
    assert code == 2 and "task: detection, whose answers have no masks" in err


def test_an_artifact_documents_the_order_of_box_coordinates_and_its_settings(
    exported: Path,
) -> None:
    signatures = read_about(exported)["signatures"]
    assert set(signatures) == {"serving_default", "tensor"}
    for signature in signatures.values():
        assert "ymin, xmin, ymax, xmax" in signature["outputs"]["boxes"]["meaning"]
        assert signature["inputs"]["score_threshold"]["default"] == 0.01
    assert "could not be decoded" in signatures["serving_default"]["outputs"]["valid"]["meaning"]
    assert "valid" not in signatures["tensor"]["outputs"]


def test_verify_measures_a_detector_again_even_if_scores_are_undefined(
    cvpipe: Callable[..., tuple[int, str, str]], exported: Path
) -> None:
    measured = read_about(exported)["measured"]["test"]
    assert None in measured.values()
    code, out, err = cvpipe("verify", exported, "--split", "test")
    assert code == 0 and "undefined" in out, err


def test_the_example_in_the_model_card_of_a_detector_runs(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = (exported / "assets.extra" / "model_card.md").read_text(encoding="utf-8")
    example = card.partition("```python\n")[2].partition("```")[0]
    folder = example.partition('load("')[2].partition('"')[0]
    Image.new("RGB", (90, 60)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(example.replace(folder, str(exported)), names)
    assert names["answers"]["image_size"].numpy().tolist() == [[60, 90]]


def test_gradients_of_the_losses_are_those_of_finite_differences(run: Run) -> None:
    config = without_regularization(run.config)
    source = open_split(config, "train", run.known)
    task = load_task(config, source.facts)
    state, _ = build_state(config, task, len(source))
    examples = some_examples(source, config, task)
    found = gradient_check(SanityCase(state.networks["network"], task, config, examples))
    assert found.ok, found.says


@pytest.mark.soak
def test_the_notebook_shows_a_detector(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVPIPE_RUN", str(run.folder))
    done = execute(ROOT / "notebooks" / "detection.ipynb", ROOT)
    # Class counts, images, augmented images, explanations, assigned targets, predictions, precision
    # and recall, errors.
    assert pictures(done) == 8


def test_data_check_counts_objects_and_shows_them(
    tmp_path: Path, cvpipe: Callable[..., tuple[int, str, str]]
) -> None:
    pairs = [part for override in TINY for part in ("--set", override)]
    pipeline = ROOT / "pipelines" / "detection" / "digit_scenes_ssd.yaml"
    code, out, _ = cvpipe("data", "check", pipeline, *pairs, "--to", tmp_path / "check", "--json")
    checked = json.loads(out)
    assert code == 0 and checked["clean"]
    assert sum(checked["splits"]["train"]["classes"].values()) > 48
    assert (tmp_path / "check" / "contact_sheet.png").is_file()


def test_anchors_are_found_for_the_networks_input(
    cvpipe: Callable[..., tuple[int, str, str]],
) -> None:
    pairs = [part for override in TINY for part in ("--set", override)]
    pipeline = ROOT / "pipelines" / "detection" / "digit_scenes_yolo.yaml"
    code, out, _ = cvpipe("data", "anchors", pipeline, *pairs, "--anchors", "3", "--json")
    found = json.loads(out)
    anchors = np.array(found["anchors"])
    assert code == 0 and anchors.shape == (3, 2) and found["mean_iou"] > 0.6
    assert (np.diff(anchors.prod(1)) > 0).all() and ((anchors > 0.05) & (anchors < 0.6)).all()
    code, _, err = cvpipe("data", "anchors", ROOT / "pipelines" / "classification" / "digits.yaml")
    assert code == 2 and "give a detection pipeline" in err


@pytest.mark.parametrize(
    "head, count",
    [("{kind: yolo_v2, stride: 16}", 3), ("{kind: yolo_v3, strides: [8, 16], anchors: []}", 2)],
)
def test_training_without_anchors_names_the_command_that_finds_them(
    head: str, count: int, tmp_path: Path, cvpipe: Callable[..., tuple[int, str, str]]
) -> None:
    words = [*TINY, f"model.head={head}", "data.source.train=6", "data.source.test=2"]
    pairs = [part for override in words for part in ("--set", override)]
    pipeline = ROOT / "pipelines" / "detection" / "digit_scenes_yolo.yaml"
    code, _, err = cvpipe("train", pipeline, *pairs, "--run", tmp_path / "run")
    assert code == 2 and not (tmp_path / "run").exists()
    assert "'model.head.anchors' is missing" in err and "cvpipe data anchors" in err
    code, out, err = cvpipe("data", "anchors", pipeline, *pairs, "--anchors", count)
    assert code == 0, err
    found = yaml.safe_load(out.splitlines()[0])
    assert np.shape(found["anchors"]) == (count, 2)
    config = config_file.load(
        pipeline, [*TINY, f"model.head={head}", f"model.head.anchors={found['anchors']}"]
    )
    assert [list(anchor) for anchor in config.model.head.anchors] == found["anchors"]


@pytest.mark.soak
def test_an_unreadable_image_is_left_out_of_mosaics_and_quarantined_by_name(tmp_path: Path) -> None:
    for n in range(12):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "labels").mkdir(exist_ok=True)
        pixels = np.random.default_rng(n).integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{n:02}.png")
        (tmp_path / "labels" / f"{n:02}.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    (tmp_path / "images" / "03.png").write_bytes(b"garbage")
    config = config_file.load(
        ROOT / "pipelines" / "detection" / "digit_scenes_ssd.yaml",
        [
            f"data.source={{kind: yolo, path: {tmp_path}, classes: [thing]}}",
            "data.validation=0",
            "data.test=0.1",
            "data.max_bad_share=0.5",
            "augment=[{op: mosaic, probability: 1}]",
            *TINY[1:5],
            "train.epochs=1",
            "train.batch_size=4",
            "schedule={kind: constant}",
        ],
    )
    train_split = open_splits(config.data)["train"]
    quarantine = Quarantine(train_split, "train", 0.5)
    encode = load_task(config, train_split.facts).encode
    batches = training_batches(train_split, config, encode, quarantine, first_step=0, last_step=5)
    weights = np.concatenate([batch["weight"] for batch in batches.as_numpy_iterator()])
    bad = [
        name for name in map(train_split.name, range(len(train_split))) if name.endswith("03.png")
    ]
    assert len(quarantine) == len(bad) == 1
    assert 0 < (weights == 0).sum() <= 2
