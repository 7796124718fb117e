"""Guards attacks on detectors: they hide or mislabel objects, and stay in the ball when saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from conftest import ROOT, Once, soaked
from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.data.known_splits import open_split
from cvpipe.data.prepare import normalize, restore_pixels
from cvpipe.data.stream import evaluation_batches
from cvpipe.evaluation import ask
from cvpipe.explain.attack import make_ball, pgd
from cvpipe.explain.rounding import to_bytes
from cvpipe.explain.task_attack import LOSS, make_objective
from cvpipe.tasks.detection import loss
from cvpipe.tasks.detection.decode import decode
from cvpipe.training.run import Run
from cvpipe.training.train import train
from cvpipe.training.trained import Trained, load

Cvpipe = Callable[..., tuple[int, str, str]]
EPSILON = 0.1


def detector_config() -> Config:
    """Return the configuration of a tiny detector that memorizes its few training images."""
    return config_file.load(
        ROOT / "pipelines" / "detection" / "digit_scenes_ssd.yaml",
        [
            "data.source={kind: digit_scenes, size: [48, 48], train: 8, validation: 2, test: 2}",
            "data.source.digit_sizes=[16, 24]",
            "prepare={size: [48, 48]}",
            "augment=[]",
            "model.backbone=resnet8",
            "model.width=0.5",
            "model.head={kind: ssd, strides: [4]}",
            "train.epochs=60",
            "train.evaluate_every=60",
            "train.batch_size=8",
            "train.pictures=false",
        ],
    )


@pytest.fixture(scope="session")
def attacked(once: Once) -> Path:
    """Train the tiny detector; return its run."""
    return once("runs/attacked", lambda folder: train(detector_config(), folder))


@pytest.fixture(scope="module")
def batch(attacked: Path) -> tuple[Trained, dict[str, Any]]:
    """Return the detector, and its training images as a batch."""
    run = Run(attacked)
    trained = load(run)
    source = open_split(trained.config, "train", run.known)
    [batch] = evaluation_batches(source, trained.config, trained.task.encode, None, 8)
    return trained, batch


def answers(trained: Trained, images: tf.Tensor, batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each image's objects with a score above a half; boxes are in pixels."""
    found = ask(trained.predict, images, batch["extent"])
    chosen = found["scores"] > 0.5
    return [{name: found[name][n][chosen[n]] for name in ("boxes", "class_ids")} for n in range(8)]


def under_attack(trained: Trained, batch: dict[str, Any], goal: str) -> tf.Tensor:
    """Return attacked images, rounded to 8 bits and prepared again."""
    config = trained.config
    objective = make_objective(trained.task, trained.members[0], goal, "detection")
    ball = make_ball(EPSILON, "linf", config.prepare)
    images = batch["image"]
    graph = tf.function(lambda x: pgd(objective, x, batch["targets"], ball, steps=10))
    rounded = to_bytes(graph(images), images, config.prepare, ball)
    decoded = tf.stack([tf.io.decode_png(tf.io.encode_png(image)) for image in rounded])
    before = restore_pixels(images, config.prepare)
    change = np.abs(decoded.numpy().astype(int) - before.numpy().astype(int))
    assert 0 < change.max() <= 255 * EPSILON
    return normalize(decoded, config.prepare)


@pytest.mark.soak
def test_objects_vanish(batch: tuple[Trained, dict[str, Any]]) -> None:
    trained, images = batch
    before = answers(trained, images["image"], images)
    after = answers(trained, under_attack(trained, images, "vanish"), images)
    count = [sum(len(found["class_ids"]) for found in each) for each in (before, after)]
    assert count[0] >= 8 and count[1] <= count[0] / 4, count


@pytest.mark.soak
def test_mislabeled_objects_keep_their_places_more_often_than_hidden_ones(
    batch: tuple[Trained, dict[str, Any]],
) -> None:
    trained, images = batch
    targets = {name: value.numpy() for name, value in images["targets"].items()}
    shares = []
    attacks = [under_attack(trained, images, goal) for goal in ("mislabel", "vanish")]
    for attacked in (images["image"], *attacks):
        found, placed, right = answers(trained, attacked, images), 0, 0
        for n, answer in enumerate(found):
            for box, label in zip(targets["boxes"][n] * 48, targets["labels"][n], strict=True):
                if label < 0 or not len(answer["boxes"]):
                    continue
                middle = (answer["boxes"][:, :2] + answer["boxes"][:, 2:]) / 2
                near = np.abs(middle - (box[:2] + box[2:]) / 2).max(1) < 5
                placed += near.any()
                right += (near & (answer["class_ids"] == label)).any()
        shares.append((placed, right))
    (_, right), (still_placed, still_right), (hidden, _) = shares
    assert right >= 8 and still_right <= right / 4 and still_placed > hidden, shares


def test_objectives_of_goals_equal_their_formulas(batch: tuple[Trained, dict[str, Any]]) -> None:
    trained, images = batch
    network, config = trained.members[0]["network"], trained.config
    outputs = network(images["image"], training=False)
    goals = trained.task.objectives
    scores = decode(outputs, config)[1].numpy()
    expected = np.log(1 - scores.max(2) + 1e-6).sum(1)
    np.testing.assert_allclose(
        goals["vanish"](outputs, images["targets"]), expected, rtol=1e-3, atol=1e-3
    )
    labels = images["targets"]["labels"].numpy()
    other = {**images["targets"], "labels": np.where(labels >= 0, (labels + 1) % 10, -1)}
    expected = -sum(part.numpy() for part in loss(outputs, other, config).values())
    np.testing.assert_allclose(goals["mislabel"](outputs, images["targets"]), expected, rtol=1e-5)
    plain = make_objective(trained.task, trained.members[0], LOSS, "detection")
    expected = sum(part.numpy() for part in loss(outputs, images["targets"], config).values())
    np.testing.assert_allclose(
        plain(images["image"], images["targets"]), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("goal", ["vanish", *soaked("loss", "mislabel")])
def test_a_detector_is_attacked(cvpipe: Cvpipe, attacked: Path, tmp_path: Path, goal: str) -> None:
    words = ("--split", "train", "--epsilon", f"0,{EPSILON}", "--steps", "5", "--goal", goal)
    code, out, err = cvpipe("attack", attacked, *words, "--to", tmp_path / "a", "--json")
    assert code == 0, err
    result = json.loads(out)
    clean, strong = result["points"]
    assert result["score"] == "ap50" and result["images"] == 8
    assert clean["ap50"] > 0.5 and strong["ap50"] < 0.6 * clean["ap50"]
    assert strong["high"] < clean["mean"] and strong["low"] <= strong["mean"] <= strong["high"]
    assert Path(result["picture"]).is_file()
    assert json.loads((tmp_path / "a" / "attack.json").read_text()) == result


@pytest.mark.parametrize(
    "words, message",
    [
        (("--goal", "vanihs"), "--goal vanihs: task detection has no such goal; did you mean 'van"),
        (
            ("--method", "deepfool"),
            "task: detection: attacks take one run, --method fgsm, bim, pgd",
        ),
        (("--class", "3"), "and no --class"),
    ],
)
def test_wrong_goals_are_errors(
    cvpipe: Cvpipe, attacked: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    code, out, err = cvpipe("attack", attacked, *words, "--to", tmp_path / "a")
    assert (code, out) == (2, "") and message in err
    assert not (tmp_path / "a").exists()


def test_runs_with_images_of_other_sizes_are_an_error(
    cvpipe: Cvpipe, trained_run: Path, attacked: Path
) -> None:
    code, _, err = cvpipe("attack", trained_run, attacked, "--limit", "10")
    assert code == 2 and "has other classes, or images of another size, than" in err
