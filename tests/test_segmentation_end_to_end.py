"""Guards a segmenter of resized or tiled images end to end: train, evaluate, export, predict,
serve.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from conftest import ROOT, Once, opened, soaked
from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.data.known_splits import open_split
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.stream import encoded_batches, evaluation_batches
from cvpipe.evaluation import ask, evaluate
from cvpipe.export.about import read_about
from cvpipe.export.artifact import open_artifact
from cvpipe.export.export import export
from cvpipe.export.score import evaluate_artifact
from cvpipe.geometry.masks import IGNORED, palette
from cvpipe.serving import rest
from cvpipe.serving.models import load_servable
from cvpipe.tasks import load_task
from cvpipe.training.build import build_state
from cvpipe.training.report import evaluate_run
from cvpipe.training.run import Run
from cvpipe.training.sanity.case import SanityCase, some_examples, without_regularization
from cvpipe.training.sanity.gradient_check import gradient_check
from cvpipe.training.sanity.overfit import attempt_overfit
from cvpipe.training.train import train
from cvpipe.training.trained import load
from test_notebooks import execute, pictures, text

PIPELINE = ROOT / "pipelines" / "segmentation" / "digit_scenes_fcn.yaml"
SOURCE = (
    "data.source={{kind: masks, path: {}, train: [{{images: images, masks: masks}}], classes:"
    " [{{name: ground}}, {{name: square}}]}}"
)
TINY = (
    "data.test=0.4",
    "data.validation=0.2",
    "augment=[{op: scale_crop, balance: 0.5}, {op: flip}]",
    "model.backbone=resnet8",
    "model.width=0.25",
    "train.epochs=4",
    "train.batch_size=4",
    "schedule={kind: constant}",
)
HOW = {
    "stretched": ("prepare={size: [64, 48]}", "model.head={kind: fcn}"),
    "in tiles": (
        "prepare={size: [64, 64], resize: tile, overlap: 32}",
        "model.head={kind: fcn, output_stride: 4}",
    ),
}


def picture(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return light squares on dark noise, uint8 [height, width, 3], and their mask, uint8 [height,
    width].
    """
    random = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(3):
        top, left, side = (
            random.integers(0, height - 20),
            random.integers(0, width - 20),
            random.integers(12, 40),
        )
        mask[top : top + side, left : left + side] = 1
    return (random.integers(0, 80, (height, width, 3)) + 150 * mask[..., np.newaxis]).astype(
        np.uint8
    ), mask


@pytest.fixture(scope="session")
def squares(once: Once) -> Path:
    """Twenty images of different sizes with masks, some pixels of which are ignored."""
    return once("data/squares", draw_squares)


def draw_squares(folder: Path) -> None:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(20):
        pixels, mask = picture(70 + 7 * (number % 5), 120 - 9 * (number % 4), number)
        mask[:4] = IGNORED
        Image.fromarray(pixels).save(folder / "images" / f"{number:02}.jpg", quality=95)
        Image.fromarray(mask).save(folder / "masks" / f"{number:02}.png")


@pytest.fixture(scope="session", params=["stretched", *soaked("in tiles")])
def run(request: pytest.FixtureRequest, squares: Path, once: Once) -> Run:
    """A finished run of a tiny FCN."""
    config = config_file.load(PIPELINE, [SOURCE.format(squares), *TINY, *HOW[request.param]])

    def make(folder: Path) -> None:
        scores = train(config, folder)
        assert scores["images"] == 8 and np.isfinite(scores["mean_iou"])

    return Run(once(f"runs/segmentation_{request.param.replace(' ', '_')}", make))


@pytest.fixture
def exported(run: Run, once: Once, gate_in_this_process: None) -> Path:
    """The folder of the version exported from `run`."""
    return once(f"saved/{run.folder.name}/squares", lambda folder: export(run, folder)) / "1"


def test_a_run_leaves_a_report_with_pictures(run: Run) -> None:
    report = run.report("test").read_text(encoding="utf-8")
    for word in (
        "mean_iou",
        "boundary_iou",
        "Confusion matrix",
        "Class iou",
        "Predictions",
        "Per class",
    ):
        assert word in report
    assert {path.stem for path in run.pictures("test").glob("*.png")} == {
        "predictions",
        "confusion_matrix",
        "class_iou",
        "curves",
    }


def test_the_export_passes_the_gate_with_folded_norms(exported: Path) -> None:
    gate = read_about(exported)["gate"]
    assert gate["max_difference"] <= 1e-5 and gate["folded"]


@pytest.mark.soak
@pytest.mark.parametrize("run", ["stretched"], indirect=True)
def test_the_export_passes_the_gate_in_a_new_process(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path)
    assert read_about(tmp_path / "1")["gate"]["max_difference"] <= 1e-5


def test_the_artifact_scores_as_the_run_does(run: Run, exported: Path, tmp_path: Path) -> None:
    # Evaluate a copy, because evaluation writes a report into the run.
    copied = Run(Path(shutil.copytree(run.folder, tmp_path / "run")))
    from_run, from_artifact = evaluate_run(copied), evaluate_artifact(exported, "test")
    assert from_run["pixels"] == from_artifact["pixels"]
    for name in ("mean_iou", "pixel_accuracy", "boundary_iou"):
        assert from_run[name] == pytest.approx(from_artifact[name], abs=1e-4), name


def test_images_in_tiles_are_evaluated_one_at_a_time_with_the_scores_of_a_batch(run: Run) -> None:
    trained, seen = load(run), []
    source = open_split(trained.config, "test", run.known)
    quarantine = Quarantine(source, "test", 0.0)

    def predict(image: tf.Tensor, extent: tf.Tensor) -> Mapping[str, tf.Tensor]:
        seen.append(len(image))
        return trained.predict(image, extent)

    task = trained.task
    one_by_one = evaluate(predict, source, task, trained.config, quarantine=quarantine)
    assert set(seen) == {
        1 if trained.config.prepare.resize == "tile" else trained.config.train.batch_size
    }
    metrics = task.metrics()
    for batch in evaluation_batches(
        source, trained.config, task.true_targets, None, 8, task.targets
    ).as_numpy_iterator():
        metrics.update(
            ask(trained.predict, batch["image"], batch["extent"]), batch["targets"], batch["weight"]
        )
    together = metrics.result()
    assert one_by_one["pixels"] == together["pixels"] and one_by_one["mean_iou"] == pytest.approx(
        together["mean_iou"], abs=1e-4
    )


def test_masks_for_encoded_images_equal_those_of_evaluation(run: Run, exported: Path) -> None:
    trained, artifact = load(run), opened(exported)
    truth, fields = trained.task.true_targets, trained.task.targets
    source = open_split(trained.config, "test", run.known)
    batch = next(iter(evaluation_batches(source, trained.config, truth, None, 8, fields)))
    encoded = next(iter(encoded_batches(source, trained.config, truth, 8, fields)))["bytes"]
    expected, given = (
        ask(trained.predict, batch["image"], batch["extent"]),
        ask(artifact, encoded),
    )
    assert expected["mask"].shape == given["mask"].shape == batch["targets"]["mask"].shape
    assert (expected["mask"] == given["mask"]).mean() >= 0.9999
    np.testing.assert_allclose(
        given["mean_probabilities"], expected["mean_probabilities"], atol=1e-5
    )


def test_one_artifact_answers_images_of_different_sizes_and_a_broken_image(exported: Path) -> None:
    sizes = [(40, 300), (200, 40), (1, 500), (64, 64)]
    images = [
        tf.io.encode_png(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)).numpy()
        for size in sizes
    ]
    artifact = opened(exported)
    answers = ask(artifact, tf.constant([*images, b"no image"]))
    assert answers["valid"].tolist() == [True] * 4 + [False] and answers["mask"].shape == (
        5,
        200,
        500,
    )
    for n, (height, width) in enumerate(sizes):
        alone = ask(artifact, tf.constant(images[n : n + 1]))
        assert (answers["mask"][n, :height, :width] == alone["mask"][0]).mean() > 0.999
        assert (answers["mask"][n, :height, :width] < 2).all() and (
            answers["mask"][n] < 2
        ).sum() == height * width


MEMORY = """
import re, sys
import tensorflow as tf

def megabytes(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

answer = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
for height, width in ((64, 64), (2149, 1479), (4000, 4000)):
    noise = tf.random.stateless_uniform([height // 8 + 1, width // 8 + 1, 3], [0, 0], 0, 255)
    image = tf.io.encode_jpeg(tf.cast(tf.image.resize(noise, [height, width]), tf.uint8))
    before = megabytes("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")
    shape = answer(image_bytes=tf.constant([image.numpy()]))["mask"].shape
    print(*shape[1:], megabytes("VmHWM") - before)
"""


@pytest.mark.soak
def test_memory_depends_on_the_size_of_the_image_but_not_of_feature_maps(exported: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(exported)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _, (*photo, extra), (*large, more) = [
        [float(word) for word in line.split()] for line in done.stdout.splitlines()
    ]
    assert photo == [2149, 1479] and large == [4000, 4000]
    # For 4,000 × 4,000 pixels, image and mask take 61 MB. The first layer's outputs alone, in
    # float32 for the whole image, would take 61 MB for every channel.
    assert extra < 250 and more < 250


@pytest.mark.soak
@pytest.mark.parametrize("run", ["in tiles"], indirect=True)
def test_pictures_in_the_answer_show_its_mask(
    run: Run, tmp_path: Path, cvpipe: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = cvpipe(
        "export", run.folder, "--to", tmp_path, "--set", "export.png=[mask, overlay]", "--json"
    )
    assert code == 0, err
    files = [tf.io.encode_png(picture(*size, 3)[0]).numpy() for size in ((60, 90), (300, 50))]
    answers = ask(
        open_artifact(Path(json.loads(out)["artifact"])), tf.constant([*files, b"no image"])
    )
    for n, (file, size) in enumerate(zip(files, ((60, 90), (300, 50)))):
        mask = np.array(Image.open(io.BytesIO(answers["mask_bytes"][n])))
        np.testing.assert_array_equal(mask, answers["mask"][n, : size[0], : size[1]])
        shown = np.array(Image.open(io.BytesIO(answers["overlay_bytes"][n])))
        np.testing.assert_allclose(
            shown, 0.6 * palette()[mask] + 0.4 * tf.io.decode_png(file).numpy(), atol=1
        )
    assert (
        answers["mask_bytes"][2] == answers["overlay_bytes"][2] == b"" and not answers["valid"][2]
    )


def test_a_segmenter_is_served_as_json(exported: Path) -> None:
    servable = load_servable(exported)
    image = tf.io.encode_png(picture(60, 90, 3)[0])
    coded = {
        "b64": (
            tf.io.encode_base64(image, pad=True)
            .numpy()
            .decode()
            .replace("-", "+")
            .replace("_", "/")
        )
    }
    request = rest.parse_request(json.dumps({"instances": [coded]}).encode())
    tensors = rest.to_tensors(
        request, servable.input_specs("serving_default"), servable.defaults("serving_default")
    )
    (answer,) = rest.to_answer(servable.signatures["serving_default"](**tensors), True)[
        "predictions"
    ]
    assert np.array(answer["mask"]).shape == (60, 90) and sum(answer["shares"]) == pytest.approx(
        1, abs=1e-5
    )


def test_predict_prints_masks_as_png_or_writes_and_draws_them(
    exported: Path, tmp_path: Path, cvpipe: Callable[..., tuple[int, str, str]]
) -> None:
    Image.fromarray(picture(50, 80, 2)[0]).save(tmp_path / "squares.png")
    image, drawn, masks = tmp_path / "squares.png", tmp_path / "drawn", tmp_path / "masks"
    code, out, _ = cvpipe("predict", exported, image)
    answer: dict[str, Any] = json.loads(out)
    assert code == 0 and answer["image_size"] == [50, 80]
    mask = np.array(Image.open(io.BytesIO(base64.b64decode(answer["mask"]["b64"]))))
    assert mask.shape == (50, 80) and set(np.unique(mask)) <= {0, 1}
    shares = {name: np.mean(mask == n) for n, name in enumerate(("ground", "square"))}
    for name, share in answer["shares"].items():
        assert share == pytest.approx(shares[name], abs=1e-6)
    code, out, _ = cvpipe("predict", exported, image, image, "--draw", drawn, "--masks", masks)
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["picture"] for line in lines] == [
        str(drawn / f"squares.png{number}.prediction.png") for number in ("", ".2")
    ]
    for line, number in zip(lines, ("", ".2")):
        assert line["mask"] == str(masks / f"squares.png{number}.mask.png")
        np.testing.assert_array_equal(np.array(Image.open(line["mask"])), mask)
        assert Path(line["picture"]).is_file()


def sanity_case(config: Config, source: Source) -> SanityCase:
    """Return a fresh model of a pipeline with some examples of a source."""
    task = load_task(config, source.facts)
    state, _ = build_state(config, task, len(source))
    examples = some_examples(source, config, task)
    return SanityCase(state.networks["network"], task, config, examples)


def test_gradients_of_the_losses_are_those_of_finite_differences(run: Run) -> None:
    config = without_regularization(run.config)
    found = gradient_check(sanity_case(config, open_split(config, "train", run.known)))
    assert found.ok, found.says


@pytest.mark.parametrize(
    "how",
    [
        *HOW.values(),
        ("prepare={size: [64, 48], resize: letterbox}", "model.head={kind: fcn, output_stride: 4}"),
    ],
)
@pytest.mark.soak
def test_a_batch_with_masks_of_another_size_is_overfitted(
    squares: Path, how: tuple[str, ...]
) -> None:
    config = without_regularization(
        config_file.load(
            PIPELINE, [SOURCE.format(squares), *TINY, *how, "optimizer.learning_rate=0.01"]
        )
    )
    source = open_splits(config.data)["train"].subset(np.arange(2))
    assert attempt_overfit(sanity_case(config, source), 100).score > 0.9


@pytest.mark.soak
def test_the_notebook_shows_a_segmenter(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVPIPE_RUN", str(run.folder))
    done = execute(ROOT / "notebooks" / "segmentation.ipynb", ROOT)
    # Images, augmented images, upsampling, answers, confusion, each class's IoU.
    assert pictures(done) == 6
    assert "largest difference away from the edges" in text(done)
