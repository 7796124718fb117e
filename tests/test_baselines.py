"""Guards baselines: they see the pipeline's prepared images and splits, and are reproducible."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from conftest import DIGITS
from cvpipe import baselines as module
from cvpipe import config_file
from cvpipe.baselines import Images, baselines, vote
from cvpipe.data.sources import open_splits
from cvpipe.errors import DataError
from labels import labels_of

Cvpipe = Callable[..., tuple[int, str, str]]
# Images as in scikit-learn: 8×8 pixels in 0…1.
PLAIN = ("prepare.size=[8, 8]", "prepare.mean=[0]", "prepare.std=[1]", "data.limit=300")


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return list(baselines(config_file.load(DIGITS, PLAIN)))


def test_every_baseline_learns_the_digits_and_k_of_5_is_always_included(rows: list[dict]) -> None:
    names = {row["baseline"] for row in rows}
    assert names == {
        "nearest neighbors, L2",
        "nearest neighbors, L1",
        "linear SVM",
        "softmax regression",
        "two-layer net, 256 hidden",
    }
    for row in rows:
        assert row["accuracy"] > 0.85 and row["images"] == 359 and row["note"] == "", row
    for distance in ("L1", "L2"):
        assert 5 in [row["settings"]["k"] for row in rows if row["baseline"].endswith(distance)]


def test_rows_are_the_same_every_time(rows: list[dict]) -> None:
    again = list(baselines(config_file.load(DIGITS, PLAIN)))
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in rows]


def test_five_neighbors_score_as_scikit_learn_does_on_the_same_split(rows: list[dict]) -> None:
    digits, splits = load_digits(), open_splits(config_file.load(DIGITS, PLAIN).data)
    train, test = splits["train"].records, splits["test"].records
    values = digits.data / 16
    expected = (
        KNeighborsClassifier(5)
        .fit(values[train], digits.target[train])
        .score(values[test], digits.target[test])
    )
    (row,) = [
        row
        for row in rows
        if row["baseline"] == "nearest neighbors, L2" and row["settings"]["k"] == 5
    ]
    assert row["accuracy"] == pytest.approx(expected, abs=1.5 / 359)


def test_the_vote_equals_scikit_learns() -> None:
    random = np.random.default_rng(0)
    points, labels, requested = (
        random.normal(size=(60, 3)),
        random.integers(0, 4, 60),
        random.normal(size=(200, 3)),
    )
    for k in (1, 2, 5, 8):
        classifier = KNeighborsClassifier(k).fit(points, labels)
        nearest = labels[classifier.kneighbors(requested, 8, return_distance=False)]
        np.testing.assert_array_equal(vote(nearest, k), classifier.predict(requested))


def test_a_sample_keeps_the_share_of_each_class_and_depends_on_the_seed() -> None:
    labels = np.repeat([0, 1], [60, 30]).astype(np.int32)
    images = Images(np.arange(90, dtype=np.float32)[:, np.newaxis], labels)
    sample = images.sample(30, seed=0)
    assert np.bincount(sample.labels).tolist() == [20, 10]
    np.testing.assert_array_equal(labels[sample.values[:, 0].astype(int)], sample.labels)
    np.testing.assert_array_equal(sample.values, images.sample(30, seed=0).values)
    assert (sample.values != images.sample(30, seed=1).values).any()
    assert images.sample(90, seed=0) is images
    assert len(Images(images.values, np.arange(90, dtype=np.int32)).sample(30, seed=0).labels) == 30


def test_without_a_validation_split_settings_are_chosen_on_a_part_of_the_training_split(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TRAINABLE", ())
    found = list(baselines(config_file.load(DIGITS, [*PLAIN, "data.validation=0"])))
    assert {row["images"] for row in found} == {359} and min(row["accuracy"] for row in found) > 0.9


def test_distances_that_take_too_long_are_measured_on_a_sample_with_a_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TRAINABLE", ())
    monkeypatch.setattr(module, "MOST_DIFFERENCES", 100 * 300 * 64)
    found = list(baselines(config_file.load(DIGITS, PLAIN)))
    by_distance = {
        distance: [row for row in found if row["baseline"].endswith(distance)]
        for distance in ("L1", "L2")
    }
    assert {(row["images"], row["note"]) for row in by_distance["L1"]} == {
        (100, "on a sample of 100 test images")
    }
    assert {(row["images"], row["note"]) for row in by_distance["L2"]} == {(359, "")}


def test_images_are_normalized_by_statistics_of_the_training_split() -> None:
    config = config_file.load(
        DIGITS, ["prepare.size=[8, 8]", "prepare.normalize=image", "data.limit=300"]
    )
    train = open_splits(config.data)["train"]
    images = module._read(train, "train", config, module._normalization(train, config))
    np.testing.assert_allclose(images.values.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_array_equal(images.labels, labels_of(train))
    assert images.values.shape == (300, 64) and images.values.std() > 0.1


def test_a_single_training_image_is_refused() -> None:
    config = config_file.load(DIGITS, [*PLAIN[:-1], "data.limit=1"])
    with pytest.raises(DataError, match="has 1 image: take more with --limit"):
        list(baselines(config))


def test_images_that_exceed_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_VALUES", 300 * 64 - 1)
    with pytest.raises(
        DataError, match=r"--limit, or smaller ones with --set prepare.size=\[4,4\]"
    ):
        next(baselines(config_file.load(DIGITS, PLAIN)))


def test_the_command_prints_a_table_or_json(
    cvpipe: Cvpipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRAINABLE", module.TRAINABLE[:1])
    sets = [word for override in PLAIN[:3] for word in ("--set", override)]
    code, out, _ = cvpipe("baselines", DIGITS, *sets, "--limit", 100)
    assert (
        code == 0
        and out.splitlines()[0].split()[:2] == ["baseline", "settings"]
        and "linear SVM" in out
    )
    code, out, _ = cvpipe("baselines", DIGITS, *sets, "--limit", 100, "--json")
    assert code == 0 and {row["baseline"] for row in json.loads(out)} >= {
        "linear SVM",
        "nearest neighbors, L1",
    }
    code, out, err = cvpipe("baselines", DIGITS, "--limit", "some")
    assert (code, out) == (2, "") and "'data.limit' should be an integer" in err
