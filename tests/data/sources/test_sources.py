"""Guards held-out examples: each class keeps its share, and warnings name shortages."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.data import Data, Fold
from cvpipe.config.digits import Digits
from cvpipe.config.label_sources import Folder
from cvpipe.config.style import StyleData
from cvpipe.data.annotations.label import Label
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.constructors import classification_source
from cvpipe.data.sources.digits import digits
from cvpipe.errors import DataError
from labels import labels_of

DIGITS = Digits(kind="digits")


def records(splits: dict[str, Source]) -> dict[str, list[int]]:
    return {name: split.records.tolist() for name, split in splits.items()}


def labeled(counts: list[int]) -> Source:
    """Return a source with counts[n] examples of class n, in mixed order."""
    labels = (
        np.random.default_rng(0)
        .permutation(np.repeat(np.arange(len(counts)), counts))
        .astype(np.int32)
    )
    return classification_source(tuple(map(str, range(len(counts)))), labels, lambda n: {}, str)


def photos(folder: Path, counts: dict[str, int]) -> Data:
    """Write a folder of empty files per class; no test here decodes them."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{number}.jpg").touch()
    return Data(source=Folder(kind="folder", path=str(folder)))


def test_digits_are_1797_images_of_ten_classes() -> None:
    [(name, source)] = digits(Digits(kind="digits")).items()
    assert (name, len(source), source.classes) == ("all", 1797, tuple("0123456789"))
    np.testing.assert_array_equal(
        np.bincount(labels_of(source)), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    )
    assert source.name(5) == "digits[5]"


def test_digits_equal_those_of_scikit_learn_scaled_to_255() -> None:
    from sklearn.datasets import load_digits

    source, data = digits(Digits(kind="digits"))["all"], load_digits()
    read = tf.data.Dataset.range(1797).map(source.read).batch(1797)
    assert read.element_spec["image"] == tf.TensorSpec([None, 8, 8, 1], tf.uint8)
    [examples] = read.as_numpy_iterator()
    np.testing.assert_array_equal(examples["label"], data.target)
    np.testing.assert_allclose(
        examples["image"][..., 0] / 255 * 16, data.images, atol=0.5 / 255 * 16
    )
    assert examples["image"].max() == 255


def test_a_subset_reads_and_names_the_chosen_examples() -> None:
    source = digits(Digits(kind="digits"))["all"]
    part = source.subset(np.array([40, 7]))
    assert (len(part), part.name(0), part.name(1)) == (2, "digits[40]", "digits[7]")
    for index, original in enumerate([40, 7]):
        one, other = (
            part.read(tf.constant(index, tf.int64)),
            source.read(tf.constant(original, tf.int64)),
        )
        np.testing.assert_array_equal(one["image"], other["image"])
        assert int(one["label"]) == int(other["label"])


def test_a_digest_depends_on_examples_order_and_labels_but_not_the_location() -> None:
    source = labeled([5, 5])
    assert (
        source.digest()
        == labeled([5, 5]).digest()
        == dataclasses.replace(source, locate_record="/elsewhere/{}".format).digest()
    )
    others = [
        source.subset(np.arange(9)),
        source.subset(np.arange(10)[::-1]),
        dataclasses.replace(source, annotations=(Label(1 - labels_of(source)),)),
    ]
    assert len({source.digest(), *(other.digest() for other in others)}) == 4


@pytest.mark.parametrize("validation, test", [(0.1, 0.2), (0.3, 0.3)])
def test_splits_are_disjoint_and_have_their_shares(validation: float, test: float) -> None:
    splits = records(open_splits(Data(source=DIGITS, validation=validation, test=test)))
    assert splits.keys() == {"train", "validation", "test"}
    assert sorted(sum(splits.values(), [])) == list(range(1797))
    assert len(splits["test"]) == pytest.approx(1797 * test, abs=5)
    # Validation takes its share of the images that the test split leaves.
    assert len(splits["validation"]) == pytest.approx(1797 * (1 - test) * validation, abs=5)


def test_a_seed_chooses_the_splits() -> None:
    first, again, other = (
        records(open_splits(Data(source=DIGITS, split_seed=seed))) for seed in (0, 0, 1)
    )
    assert first == again
    assert all(first[name] != other[name] for name in first)


def test_a_seed_chooses_the_validation_split_if_the_test_split_is_given(tmp_path: Path) -> None:
    config = photos(
        tmp_path, {f"{split}/{name}": 20 for split in ("train", "test") for name in ("cat", "dog")}
    )
    first, other = (open_splits(config.model_copy(update={"split_seed": seed})) for seed in (0, 1))
    assert records(first)["test"] == records(other)["test"]
    assert records(first)["validation"] != records(other)["validation"]


def test_the_test_split_doesnt_depend_on_the_validation_share() -> None:
    some, none = (
        records(open_splits(Data(source=DIGITS, validation=share))) for share in (0.2, 0.0)
    )
    assert some["test"] == none["test"]
    assert none.keys() == {"train", "test"}


def test_a_single_class_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only the class 'cat'.*at least two"):
        open_splits(photos(tmp_path, {"cat": 5}))


def test_a_class_with_one_image_is_trained_on_and_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        splits = open_splits(photos(tmp_path, {"cat": 20, "dog": 1}))
    assert {name: (labels_of(split) == 1).sum() for name, split in splits.items()} == {
        "train": 1,
        "validation": 0,
        "test": 0,
    }
    assert caplog.messages == [
        f"{tmp_path}: class 'dog' has one image to train on, so its score is unreliable; add more"
    ]


def test_classes_that_a_task_doesnt_use_arent_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = photos(tmp_path, {"cat": 20, "dog": 1})
    with caplog.at_level(logging.WARNING):
        open_splits(StyleData(source=config.source))
    assert not caplog.messages


def test_a_warning_reports_too_few_images_for_validation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        splits = open_splits(photos(tmp_path, {"cat": 4, "dog": 4}))
    assert {name: len(split) for name, split in splits.items()} == {"train": 6, "test": 2}
    assert "too few images to hold out any for validation" in caplog.text


@pytest.mark.parametrize("change", [{"test": 0.0}, {"test": 0.001}])
def test_an_empty_test_split_is_an_error(tmp_path: Path, change: dict[str, Any]) -> None:
    config = photos(tmp_path, {"cat": 4, "dog": 4}).model_copy(update=change)
    with pytest.raises(
        DataError, match="no image in the test split; add images, or raise data.test"
    ):
        open_splits(config)


# -- classes, folds and limits together


def names(splits: dict[str, Source]) -> dict[str, set[str]]:
    return {name: set(split.names()) for name, split in splits.items()}


def test_chosen_classes_have_the_same_splits_as_among_all_classes() -> None:
    every, chosen = (open_splits(Data(source=DIGITS, only=only)) for only in ((), ("7", "1")))
    for name, split in chosen.items():
        assert split.classes == ("7", "1") and set(labels_of(split)) == {0, 1}
        of_all = every[name].subset(np.flatnonzero(np.isin(labels_of(every[name]), [1, 7])))
        assert split.names() == of_all.names()


def test_folds_replace_the_validation_split_and_keep_the_test_split() -> None:
    plain = open_splits(Data(source=DIGITS))
    folds = [
        open_splits(Data(source=DIGITS, validation=0, fold=Fold(of=3, index=index)))
        for index in range(3)
    ]
    trained_on = names(plain)["train"] | names(plain)["validation"]
    for splits in folds:
        assert names(splits)["test"] == names(plain)["test"]
        assert names(splits)["train"] | names(splits)["validation"] == trained_on
    assert set.union(*(names(splits)["validation"] for splits in folds)) == trained_on
    assert sum(len(splits["validation"]) for splits in folds) == len(trained_on)


def test_with_folds_a_given_validation_split_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts = {
        f"{split}/{name}": 10
        for split in ("train", "validation", "test")
        for name in ("cat", "dog")
    }
    config = photos(tmp_path, counts).model_copy(update={"fold": Fold(of=5, index=1)})
    with caplog.at_level(logging.WARNING):
        splits = open_splits(config)
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 16,
        "validation": 4,
        "test": 20,
    }
    assert all(name.startswith("train/") for name in splits["validation"].names())
    assert caplog.messages == [
        f"{tmp_path}: its validation split is unused, since data.fold takes its place"
    ]


def test_a_fold_without_images_is_an_error(tmp_path: Path) -> None:
    config = photos(tmp_path, {"cat": 4, "dog": 4}).model_copy(
        update={"fold": Fold(of=10, index=9)}
    )
    with pytest.raises(
        DataError, match="no image in the validation split; add images, or lower data.fold.of"
    ):
        open_splits(config)


def test_a_limit_applies_only_to_the_training_split() -> None:
    every, limited = (names(open_splits(Data(source=DIGITS, limit=limit))) for limit in (None, 50))
    assert limited["train"] < every["train"] and len(limited["train"]) == 50
    assert (limited["validation"], limited["test"]) == (every["validation"], every["test"])


def test_a_limit_that_leaves_a_class_without_images_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        open_splits(Data(source=DIGITS, limit=5))
    assert sum("has no image to train on" in message for message in caplog.messages) == 5
