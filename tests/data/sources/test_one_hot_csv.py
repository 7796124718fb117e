"""Guards tables with a column per class: Roboflow's multi-class CSV."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from cvpipe.config.label_sources import OneHot
from cvpipe.data.formats import find_formats
from cvpipe.data.sources.one_hot_csv import one_hot_csv
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError

# Roboflow writes a blank behind each comma.
TRAIN = "filename, cat, dog\n1.jpg, 1, 0\n2.jpg, 0, 1\n3.jpg, 1, 1\n4.jpg, 0, 0\n"
VALID = "filename, dog, cat\n1.jpg, 1, 0\n"


def write(root: Path, train: str = TRAIN, valid: str = VALID) -> Path:
    for split, table in (("train", train), ("valid", valid)):
        (root / split).mkdir()
        (root / split / "_classes.csv").write_text(table)
        for n in range(1, 5):
            (root / split / f"{n}.jpg").write_text(f"{split} {n}")
    return root


def opened(root: Path) -> dict[str, Source]:
    return one_hot_csv(
        OneHot(
            kind="one_hot_csv",
            path=str(root),
            train="train/_classes.csv",
            validation="valid/_classes.csv",
        )
    )


def test_the_column_with_a_1_is_the_class_and_images_are_beside_their_table(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = opened(write(tmp_path))
    assert splits["train"].classes == splits["validation"].classes == ("cat", "dog")
    read = [splits["train"].read(tf.constant(n, tf.int64)) for n in range(2)]
    assert [each["label"].numpy() for each in read] == [0, 1]
    assert [each["bytes"].numpy() for each in read] == [b"train 1", b"train 2"]
    [other] = [splits["validation"].read(tf.constant(0, tf.int64))]
    assert other["label"].numpy() == 1 and other["bytes"].numpy() == b"valid 1"
    assert "left out 2 images of no class or of several, such as 3.jpg" in caplog.text


def test_the_format_is_distinguished_from_a_table_of_labels(tmp_path: Path) -> None:
    root = write(tmp_path, "filename, cat, dog\n1.jpg, 1, 0\n2.jpg, 0, 1\n")
    found = find_formats(str(root))[0]
    assert found.source["kind"] == "one_hot_csv"
    assert found.source["validation"] == "valid/_classes.csv"


@pytest.mark.parametrize(
    ("train", "valid", "message"),
    [
        (
            "filename,cat,dog\n1.jpg,1,2\n",
            VALID,
            r"_classes\.csv:2: a value must be 0 or 1, not '2', in the column 'dog'",
        ),
        ("filename,cat,dog\n1.jpg,1\n", VALID, r":2: the row is cut short"),
        ("filename,cat,dog\n1.jpg,1,1\n", VALID, "no row has exactly one class"),
        ("filename,cat,cat\n1.jpg,1,0\n", VALID, "two columns have the same heading"),
        (TRAIN + "1.jpg, 1, 0\n", VALID, r":6: 1\.jpg has a row already"),
        (TRAIN, "filename,cat,cow\n1.jpg,1,0\n", "differ from those of .*, such as 'cow'"),
        (TRAIN, "filename,cat\n1.jpg,1\n", "differ from those of .*, such as 'dog'"),
    ],
)
def test_faults_are_named_with_their_line(
    tmp_path: Path, train: str, valid: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        opened(write(tmp_path, train, valid))


def test_absolute_paths_of_another_machine_are_found_by_their_end(tmp_path: Path) -> None:
    root = write(tmp_path, TRAIN.replace("1.jpg", "/home/me/train/1.jpg"))
    assert opened(root)["train"].names() == ["train/1.jpg", "train/2.jpg"]
