"""Guards merged sources: no example is lost, mislabeled or in two splits."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.data import Data, Fold
from cvpipe.config.digits import Digits
from cvpipe.config.label_sources import Folder
from cvpipe.config.source import Merge
from cvpipe.data.decode import decode_image
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.constructors import classification_source
from cvpipe.data.sources.digits import digits
from cvpipe.data.sources.merge import merge
from cvpipe.errors import DataError
from labels import labels_of

DIGITS = Digits(kind="digits")


def photos(root: Path, counts: dict[str, int]) -> Folder:
    """Write a folder of images per class; each image has one gray value that identifies it."""
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for n in range(count):
            pixels = np.full((4, 4, 3), 10 * number + n % 10, np.uint8)
            (root / name / f"{n}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    return Folder(kind="folder", path=str(root))


def splits_of(*sources: Any, **settings: Any) -> dict[str, Source]:
    return open_splits(Data(source=Merge(kind="merge", sources=sources), **settings))


def examples(source: Source) -> list[tuple[str, str]]:
    """Place and class of every example, in order."""
    return [(source.name(n), source.classes[label]) for n, label in enumerate(labels_of(source))]


def pixels_of(shape: tuple[int, ...], values: list[int]) -> Source:
    images = np.stack([np.full(shape, value, np.uint8) for value in values])
    return classification_source(
        ("a", "b"),
        np.zeros(len(values)),
        lambda n: {"image": tf.ensure_shape(tf.gather(images, n), shape)},
        str,
    )


def test_classes_are_joined_by_name_and_every_example_keeps_its_own(tmp_path: Path) -> None:
    children = [
        photos(tmp_path / "one", {"dog": 10, "cat": 10}),
        photos(tmp_path / "two", {"owl": 10, "cat": 10}),
    ]
    merged = splits_of(*children)
    assert merged["train"].classes == ("cat", "dog", "owl")
    found = sorted(sum((examples(split) for split in merged.values()), []))
    assert found == sorted((str(file), file.parent.name) for file in tmp_path.rglob("*.png"))


def test_each_merged_source_is_split_as_it_would_be_alone(tmp_path: Path) -> None:
    children = [
        photos(tmp_path / "one", {"dog": 20, "cat": 10}),
        photos(tmp_path / "two", {"owl": 30, "cat": 10}),
    ]
    alone = [open_splits(Data(source=child)) for child in children]
    assert examples(splits_of(*children)["test"]) == sum(
        (examples(splits["test"]) for splits in alone), []
    )


def test_records_are_those_of_the_sources(tmp_path: Path) -> None:
    children = [photos(tmp_path / "one", {"a": 7, "b": 6}), photos(tmp_path / "two", {"c": 9})]
    for split in splits_of(*children, validation=0).values():
        rows = list(
            tf.data.Dataset.range(len(split))
            .map(split.read, num_parallel_calls=4)
            .as_numpy_iterator()
        )
        assert [row["bytes"] for row in rows] == [
            Path(split.name(n)).read_bytes() for n in range(len(split))
        ]
        assert [row["label"] for row in rows] == labels_of(split).tolist()
        assert (
            split.read(tf.constant(len(split) - 1, tf.int64))["bytes"].numpy() == rows[-1]["bytes"]
        )


def test_a_merged_source_without_a_validation_split_holds_one_out(tmp_path: Path) -> None:
    given = photos(
        tmp_path / "given",
        {
            f"{split}/{name}": 10
            for split in ("train", "validation", "test")
            for name in ("cat", "dog")
        },
    )
    lacking = photos(tmp_path / "lacking", {"cat": 50, "dog": 50})
    splits = splits_of(given, lacking, validation=0.1)
    counts = {
        name: [
            sum(place.startswith(child.path) for place, _ in examples(split))
            for child in (given, lacking)
        ]
        for name, split in splits.items()
    }
    assert counts == {"train": [20, 72], "test": [20, 20], "validation": [20, 8]}
    folded = splits_of(given, lacking, fold=Fold(of=5))
    assert len(folded["train"]) + len(folded["validation"]) == 20 + 80


def test_names_do_not_depend_on_the_location_of_the_data(tmp_path: Path) -> None:
    here, there = (
        splits_of(photos(tmp_path / place / "x", {"a": 20, "b": 20}), DIGITS)
        for place in ("here", "there")
    )
    for name in here:
        assert here[name].digest() == there[name].digest()
        assert here[name].name(0).startswith(str(tmp_path / "here")) and there[name].name(
            0
        ).startswith(str(tmp_path / "there"))


def test_files_and_arrays_can_be_merged_without_loss(tmp_path: Path) -> None:
    splits = splits_of(
        photos(tmp_path / "photos", {"cat": 10, "dog": 10}), DIGITS, only=("cat", "7"), validation=0
    )
    source, original = splits["train"], digits(Digits(kind="digits"))["all"]
    names = source.names()
    assert {name.split("[")[0] for name in names} > {"digits"}
    rows = tf.data.Dataset.range(len(source)).map(source.read)
    assert rows.element_spec == {
        "bytes": tf.TensorSpec([], tf.string),
        "label": tf.TensorSpec([], tf.int32),
    }
    encoded = {name: row["bytes"] for name, row in zip(names, rows.as_numpy_iterator())}
    for name in [name for name in names if name.startswith("digits")][::20]:
        expected = original.read(tf.constant(int(name[7:-1]), tf.int64))["image"]
        np.testing.assert_array_equal(decode_image(tf.constant(encoded[name]), 1), expected)


def test_merged_arrays_stay_arrays_unless_their_channels_differ() -> None:
    alike = merge([{"train": pixels_of((4, 5, 1), [1, 2])}, {"train": pixels_of((6, 6, 1), [3])}])[
        "train"
    ]
    read = list(tf.data.Dataset.range(3).map(alike.read).as_numpy_iterator())
    assert [(row["image"].shape, row["image"].max()) for row in read] == [
        ((4, 5, 1), 1),
        ((4, 5, 1), 2),
        ((6, 6, 1), 3),
    ]
    assert tf.data.Dataset.range(3).map(alike.read).element_spec["image"].shape[-1] == 1
    other = merge([{"train": pixels_of((4, 5, 1), [1])}, {"train": pixels_of((4, 5, 3), [2])}])[
        "train"
    ]
    for row, value in zip(tf.data.Dataset.range(2).map(other.read).as_numpy_iterator(), [1, 2]):
        np.testing.assert_array_equal(
            decode_image(tf.constant(row["bytes"]), 3), np.full((4, 5, 3), value)
        )


def test_a_merged_source_may_have_no_examples() -> None:
    empty = pixels_of((4, 4, 1), [9]).subset(np.arange(0))
    merged = merge(
        [
            {"train": empty},
            {"train": pixels_of((4, 4, 1), [1, 2])},
            {"train": empty},
            {"train": pixels_of((4, 4, 1), [3])},
        ]
    )
    assert [
        int(merged["train"].read(tf.constant(n, tf.int64))["image"].numpy().max()) for n in range(3)
    ] == [1, 2, 3]
    assert merged["train"].names() == ["0", "1", "0"]


def test_merged_sources_can_be_merged(tmp_path: Path) -> None:
    inner = Merge(
        kind="merge",
        sources=(photos(tmp_path / "one", {"a": 10}), photos(tmp_path / "two", {"b": 10})),
    )
    splits = splits_of(inner, photos(tmp_path / "three", {"a": 10, "c": 10}), validation=0)
    assert splits["train"].classes == ("a", "b", "c")
    for split in splits.values():
        rows = tf.data.Dataset.range(len(split)).map(split.read).as_numpy_iterator()
        assert [row["bytes"] for row in rows] == [
            Path(split.name(n)).read_bytes() for n in range(len(split))
        ]


def test_a_bad_file_is_named_with_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = splits_of(
        photos(tmp_path / "one", {"a": 10}), photos(tmp_path / "two", {"b": 10}), validation=0
    )["train"]
    last = Path(source.name(len(source) - 1))
    last.unlink()
    quarantine = Quarantine(source, "train", 1.0)
    with caplog.at_level(logging.WARNING):
        quarantine.note(len(source) - 1)
    assert quarantine.names == {str(last): "the file is missing"}


def test_a_single_class_in_all_is_an_error_that_names_the_sources(tmp_path: Path) -> None:
    children = [photos(tmp_path / "one", {"a": 10}), photos(tmp_path / "two", {"a": 10})]
    with pytest.raises(DataError, match=f"{tmp_path}/one with {tmp_path}/two: only the class 'a'"):
        splits_of(*children)
