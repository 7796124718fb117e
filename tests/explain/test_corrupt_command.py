"""Guards `cvpipe corrupt`: error rates are those on corrupted images, for runs and artifacts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from conftest import Once
from cvpipe.data.altered import Altered
from cvpipe.data.known_splits import describe_splits, open_split
from cvpipe.data.prepare import prepare
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.statistics import evenly_spaced
from cvpipe.errors import ConfigError
from cvpipe.evaluation import Answered, Subject
from cvpipe.explain.corruption import corrupt
from cvpipe.explain.corruption_errors import Measured, Scores, measure, summarize
from cvpipe.mistakes.thresholds import validation_thresholds
from cvpipe.tasks import load_task
from cvpipe.training.run import Run
from cvpipe.training.train import train
from cvpipe.training.trained import load
from test_detector_attacks import detector_config

Cvpipe = Callable[..., tuple[int, str, str]]
LIMIT = 40
KINDS, SEVERITIES = ("impulse_noise", "contrast"), (1, 5)
WORDS = (
    *("--kind", "impulse_noise", "--kind", "contrast", "--severity", "1,5"),
    *("--limit", str(LIMIT), "--json"),
)


def expected_accuracy(run: Run, kind: str, severity: int) -> float:
    """Return the accuracy on corrupted images, which are predicted one by one."""
    trained = load(run)
    source, right = open_split(trained.config, "test", run.known), 0
    for index in evenly_spaced(len(source), LIMIT):
        example = source.read(tf.constant(index, tf.int64))
        image = corrupt(example["image"].numpy(), kind, severity, (0, int(source.records[index])))
        answer = trained.predict(prepare(tf.constant(image), trained.config.prepare)[tf.newaxis])
        right += int(answer["class_id"][0] == example["label"])
    return right / LIMIT


@pytest.mark.soak
def test_a_run_and_its_artifact_have_the_errors_of_corrupted_images(
    cvpipe: Cvpipe, trained_run: Path, artifact: Path, tmp_path: Path
) -> None:
    code, out, err = cvpipe("corrupt", trained_run, artifact, *WORDS, "--to", tmp_path / "c")
    assert code == 0, err
    result = json.loads(out)
    ours, theirs = result["models"]
    assert ours["images"] == LIMIT and result["score"] == "accuracy"
    assert ours["corruptions"] == theirs["corruptions"]
    errors = []
    for kind in KINDS:
        by_kind = ours["corruptions"][kind]
        for severity, cell in zip(SEVERITIES, by_kind["severities"], strict=True):
            accuracy = expected_accuracy(Run(trained_run), kind, severity)
            np.testing.assert_allclose([1 - cell["error"], cell["score"]], accuracy)
            assert cell["interval"][0] <= cell["error"] <= cell["interval"][1]
            errors.append(cell["error"])
    np.testing.assert_allclose(ours["mean_error"], np.mean(errors))
    assert theirs["mce"] == 1 and "mce" not in ours
    for name in ("corruptions.png", "example.png"):
        with Image.open(tmp_path / "c" / name) as picture:
            assert picture.width > 300
    stored = json.loads((tmp_path / "c" / "corruptions.json").read_text())
    assert stored["models"] == result["models"]


@pytest.mark.parametrize(
    "words, message",
    [
        (("--kind", "fogg"), "--kind fogg: unknown; did you mean 'fog'?"),
        (("--severity", "1,6"), "'1,6' is not a list of severities, such as 1,3,5"),
        (("--limit", "0"), "--limit: must be at least 1"),
        (("--seed", "-1"), "--seed: must be at least 0"),
    ],
)
def test_wrong_options_are_errors(
    cvpipe: Cvpipe, trained_run: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    code, out, err = cvpipe("corrupt", trained_run, *words, "--to", tmp_path / "c")
    assert (code, out) == (2, "") and message in err
    assert not (tmp_path / "c").exists()


@pytest.mark.soak
def test_a_detectors_errors_are_shares_of_its_objects(
    cvpipe: Cvpipe, once: Once, trained_run: Path, tmp_path: Path
) -> None:
    run = once("runs/attacked", lambda folder: train(detector_config(), folder))
    words = ("--kind", "gaussian_noise", "--severity", "1,5", "--split", "train")
    code, out, err = cvpipe("corrupt", run, *words, "--json", "--to", tmp_path / "c")
    assert code == 0, err
    result = json.loads(out)
    [model] = result["models"]
    weak, strong = model["corruptions"]["gaussian_noise"]["severities"]
    assert result["score"] == "ap50" and strong["score"] < model["clean"]["score"]
    assert model["clean"]["error"] < strong["error"] and weak["error"] < strong["error"]
    code, _, err = cvpipe("corrupt", run, trained_run, *words, "--to", tmp_path / "d")
    assert code == 2 and "has another task or other images in the train split" in err


def test_thresholds_are_chosen_on_clean_images_or_given() -> None:
    config = detector_config()
    splits = open_splits(config.data)
    source = splits["test"]
    box = np.array([[[10, 10, 30, 30], [60, 60, 90, 90]]], np.float32)
    extent = np.array([[100, 100]])
    targets = {"boxes": box[:, :1] / 100, "labels": np.zeros((1, 1), np.int64)}
    targets |= {"crowd": np.zeros((1, 1), bool), "area": np.full((1, 1), 400.0)}

    def answer(source: Source, quarantine: Quarantine) -> Answered:
        """Find the object and a wrong box; all scores are low on corrupted images."""
        scores = np.array([[0.9, 0.3]]) * (0.2 if isinstance(source, Altered) else 1)
        answers = {"boxes": box, "scores": scores, "class_ids": np.zeros((1, 2), np.int64)}
        answers |= {"count": np.array([2]), "image_size": extent}
        for n in range(len(source)):
            weight = np.ones(1)
            yield {"index": np.array([n]), "weight": weight, "targets": targets}, answers

    subject = Subject(source, load_task(config, source.facts), config, source.facts, answer)
    known = describe_splits(splits)
    chosen = validation_thresholds(subject, known, "test")
    assert chosen is not None and chosen[0] == pytest.approx(0.6)
    assert validation_thresholds(subject, known, "validation") is None
    thresholds = np.full(len(source.classes), 0.1)
    errors = []
    for given in (None, thresholds):
        found = measure(subject, "test", ["fog"], [1], 0, lambda kind: None, given)
        [row] = summarize([found], ["fog"], [1])
        errors.append([row["clean"]["error"], row["corruptions"]["fog"]["error"]])
    # At 0.6 nothing is found on corrupted images; at 0.1 there is a wrong box on clean images only.
    np.testing.assert_allclose(errors, [[0, 1], [1 / 3, 0]])


def measured(clean: list[float], corrupted: list[list[float]]) -> Measured:
    def scores(values: list[float]) -> Scores:
        return Scores(float(np.mean(values)), dict(enumerate(values)))

    names = [("fog", 1), ("fog", 3), ("snow", 1), ("snow", 3)]
    return Measured(scores(clean), dict(zip(names, map(scores, corrupted), strict=True)))


def test_mean_corruption_errors_are_the_papers() -> None:
    first = measured([1, 1, 1, 0.5], [[1, 1, 0, 0], [0, 0, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0]])
    second = measured([1, 1, 1, 1], [[1, 1, 1, 0], [0, 1, 0, 1], [1, 1, 1, 1], [0, 1, 0, 0]])
    a, b = summarize([first, second], ["fog", "snow"], [1, 3])
    assert a["clean"]["error"] == 0.125 and b["clean"]["error"] == 0
    np.testing.assert_allclose(a["mean_error"], (0.5 + 0.75 + 0.5 + 1) / 4)
    np.testing.assert_allclose(b["corruptions"]["fog"]["error"], (0.25 + 0.5) / 2)
    np.testing.assert_allclose(b["mce"], (0.75 / 1.25 + 0.75 / 1.5) / 2)
    np.testing.assert_allclose(b["relative_mce"], (0.75 / (1.25 - 0.25) + 0.75 / (1.5 - 0.25)) / 2)
    assert a["mean_error_interval"][0] < a["mean_error"] < a["mean_error_interval"][1]


def test_images_without_a_score_are_left_out_of_all_errors() -> None:
    nan = float("nan")
    model = measured([1, nan, 1, 1], [[1, 0, nan, 0], *[[1, 1, 1, 0]] * 3])
    [row] = summarize([model], ["fog", "snow"], [1, 3])
    assert row["images"] == 2 and row["clean"]["error"] == 0 and row["mean_error"] == 0.5
    with pytest.raises(ConfigError, match="no image that all corruptions can be scored on"):
        summarize([measured([nan], [[1.0]] * 4)], ["fog", "snow"], [1, 3])
