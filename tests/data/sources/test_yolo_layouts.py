"""Guards YOLO's files as tools write them: splits in data.yaml, lists, names, kinds of lines."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.data import Data
from cvpipe.config.yolo import Yolo
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.yolo import yolo
from cvpipe.errors import DataError
from image_files import zipped

LINE = "0 0.5 0.5 0.2 0.2\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode())
    return root


def opened(path: Path, **settings: Any) -> dict[str, Source]:
    return yolo(Yolo(kind="yolo", path=str(path), **settings))


def names(splits: dict[str, Source]) -> dict[str, list[str]]:
    return {split: source.names() for split, source in splits.items()}


def pairs(*stems: str) -> dict[str, str]:
    """Return images and their text files by path."""
    files = {f"{stem}.jpg": "x" for stem in stems}
    return files | {f"{stem.replace('images', 'labels')}.txt": LINE for stem in stems}


def boxes(path: Path, line: str, **settings: Any) -> list[list[float]]:
    """Return class and box of each object of an image with these lines."""
    files = {"images/1.jpg": "x", "labels/1.txt": line, "data.yaml": "names: [a, b]\n"}
    example = opened(write(path, files | settings))["all"].read(tf.constant(0, tf.int64))
    return np.round(np.column_stack([example["labels"], example["boxes"]]), 4).tolist()  # type: ignore[no-any-return]


# Files, the content of data.yaml, and the images of each split.
GIVEN: dict[str, tuple[dict[str, str], str, dict[str, list[str]]]] = {
    "other folders": (
        pairs("images/first/1", "images/second/2", "images/third/3"),
        "train: images/first\nval: images/second\ntest: images/third\n",
        {
            "train": ["images/first/1.jpg"],
            "validation": ["images/second/2.jpg"],
            "test": ["images/third/3.jpg"],
        },
    ),
    "paths as seen from elsewhere": (
        pairs("train/images/1", "valid/images/2"),
        "train: ../train/images\nval: ../valid/images\ntest:\n",
        {"train": ["train/images/1.jpg"], "validation": ["valid/images/2.jpg"]},
    ),
    "paths of another disk": (
        pairs("a/images/1", "b/images/2"),
        "path: /content/data\ntrain: a/images\nval: /mnt/x/b/images\n",
        {"train": ["a/images/1.jpg"], "validation": ["b/images/2.jpg"]},
    ),
    "a folder that all paths are relative to": (
        pairs("set/a/images/1", "set/b/images/2", "other/images/3"),
        "path: ./set\ntrain: a/images\nval: b\\images\n",
        {"train": ["set/a/images/1.jpg"], "validation": ["set/b/images/2.jpg"]},
    ),
    "several folders": (
        pairs("images/x/1", "images/y/2", "images/z/3"),
        "train: [images/x, images/y]\ntest: [images/z]\n",
        {"train": ["images/x/1.jpg", "images/y/2.jpg"], "test": ["images/z/3.jpg"]},
    ),
    "a list with another machine's absolute paths": (
        pairs("set/images/1", "set/images/2")
        | {"t.txt": "/home/me/all/1.jpg\n", "v.txt": "D:\\all\\2.jpg\n"},
        "train: t.txt\nval: v.txt\n",
        {"train": ["set/images/1.jpg"], "validation": ["set/images/2.jpg"]},
    ),
    "lists of files": (
        pairs("images/a b/1", "images/a b/2", "images/3")
        | {"lists/t.txt": "./images/a b/1.jpg\n\n/home/me/images/3.jpg\n", "v.txt": "2.jpg\n"}
        | {"v.txt": "images\\a b\\2.jpg\n"},
        "train: lists/t.txt\nvalid: v.txt\n",
        {"train": ["images/a b/1.jpg", "images/3.jpg"], "validation": ["images/a b/2.jpg"]},
    ),
    "only paths that do not exist": (
        pairs("images/train/1", "images/val/2"),
        "train: /lost/one\nval: ../lost/two\n",
        {"train": ["images/train/1.jpg"], "validation": ["images/val/2.jpg"]},
    ),
    "null": (
        pairs("images/train/1", "images/test/2"),
        "train: images/train\nval: null\ntest: ~\n",
        {"train": ["images/train/1.jpg"], "test": ["images/test/2.jpg"]},
    ),
    "lists without keys": (
        pairs("obj_train_data/1", "obj_train_data/2")
        | {"train.txt": "data/obj_train_data/2.jpg\n", "test.txt": "data/obj_train_data/1.jpg\n"},
        "",
        {"train": ["obj_train_data/2.jpg"], "test": ["obj_train_data/1.jpg"]},
    ),
    "a note with the file name of a list": (
        pairs("images/1") | {"train.txt": "trained on Monday\n"},
        "",
        {"all": ["images/1.jpg"]},
    ),
}


@pytest.mark.parametrize("place", [lambda root: root, zipped], ids=["folder", "zip"])
@pytest.mark.parametrize("layout", GIVEN)
def test_splits_are_read_from_data_yaml(
    tmp_path: Path, layout: str, place: Callable[[Path], Path]
) -> None:
    files, text, expected = GIVEN[layout]
    path = place(write(tmp_path / "d", files | {"data.yaml": f"names: [a]\n{text}"}))
    splits = opened(path)
    assert names(splits) == expected
    for source in splits.values():
        assert source.counts().tolist() == [len(source)]


def test_images_outside_all_splits_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = pairs("images/a/1", "images/b/2") | {"data.yaml": "names: [a]\ntrain: images/a\n"}
    with caplog.at_level(logging.WARNING):
        assert names(opened(write(tmp_path, files))) == {"train": ["images/a/1.jpg"]}
    assert "left out 1 image outside the splits of data.yaml, such as images/b/2.jpg" in caplog.text


MISTAKES = {
    "a split that does not exist": (
        "train: images/a\nval: images/c\n",
        "data.yaml: val is 'images/c', which doesn't exist; correct the path, or remove the key",
    ),
    "several splits that do not exist": (
        "train: x/a\nval: x/b\n",
        "data.yaml: train is 'x/a', which doesn't exist; correct the path$",
    ),
    "an empty split": (
        "train: images/a\ntest: labels\n",
        "data.yaml: test is 'labels', which contains no image; correct the path",
    ),
    "no train": ("val: images/a\n", "data.yaml: the key train is missing beside val; add it"),
    "a mapping for a path": (
        "train: {a: b}\n",
        "data.yaml: train must be a path or a list of paths; correct it",
    ),
    "a gap": ("names: {0: a, 2: b}\n", "data.yaml: the keys of names are 0, 2; number the classes"),
    "mixed keys": ("names: {0: a, b: c}\n", "data.yaml: the keys of names are 0, b; number the"),
    "a list for a name": (
        "names: [[a], b]\n",
        r"data.yaml: class 0 must have a name, not \[\"a\"\]; correct it",
    ),
    "an empty name": (
        "names: [a, '']\n",
        'data.yaml: class 1 must have a name, not ""; correct it',
    ),
    "no keys": ("- a\n- b\n", "data.yaml: the file must have keys with values, such as 'names: "),
    "another encoding": (
        "names: [größe]\n",
        "data.yaml:1: this is not text in UTF-8; save the file as UTF-8",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_fault_in_data_yaml_is_an_error_sentence(tmp_path: Path, mistake: str) -> None:
    text, message = MISTAKES[mistake]
    path = write(tmp_path, pairs("images/a/1", "images/b/2"))
    given = text if "names" in text or text[0] == "-" else f"names: [a]\n{text}"
    (path / "data.yaml").write_bytes(given.encode("latin-1" if "ö" in given else "utf-8"))
    with pytest.raises(DataError, match=message):
        opened(path)


def test_class_names_stay_text_as_written(tmp_path: Path) -> None:
    words = ("no", "010", "12:30", "1_000", "null", "0x1F", "off")
    path = write(tmp_path, pairs("images/1") | {"data.yaml": f"names: [{', '.join(words)}]\n"})
    assert opened(path)["all"].classes == words


@pytest.mark.parametrize("name", ["labels/classes.txt", "classes.txt", "obj.names"])
def test_class_names_may_come_from_a_text_file(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, pairs("images/1") | {name: "the cat\n010\n\n"})
    with caplog.at_level(logging.WARNING):
        assert opened(path)["all"].classes == ("the cat", "010")
        assert opened(path, names=name)["all"].classes == ("the cat", "010")
    (path / "more").mkdir()
    (path / "more/classes.txt").write_text("dog\n")
    with pytest.raises(DataError, match="the class names differ from those in .*; keep one of"):
        opened(path)


def test_other_text_files_among_the_labels_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = {"labels/classes.txt": "a\n", "labels/notes.txt": "Monday, tired\n"}
    with caplog.at_level(logging.WARNING):
        source = opened(write(tmp_path, pairs("images/1") | others), classes=("a",))["all"]
    assert not source.annotation(Boxes).faults
    assert (
        "left out 2 text files among the labels without an image and without objects, such as"
        " labels/classes.txt"
    ) in caplog.text


def test_text_files_may_be_beside_their_images(tmp_path: Path) -> None:
    flat = write(tmp_path / "flat", pairs("1", "2") | {"classes.txt": "a\n"})
    assert opened(flat)["all"].counts().tolist() == [2]
    named = {"images/1.jpg": "x", "images/1.txt": LINE}
    beside = write(tmp_path / "named", named)
    assert opened(beside, classes=("a",))["all"].counts().tolist() == [1]


LINES = {
    "a box": ("1 0.5 0.5 0.2 0.4", [1, 0.3, 0.4, 0.7, 0.6]),
    "a confidence": ("1 0.5 0.5 0.2 0.4 0.9", [1, 0.3, 0.4, 0.7, 0.6]),
    "three corners": ("0 0.1 0.2 0.5 0.3 0.4 0.8", [0, 0.2, 0.1, 0.8, 0.5]),
    "corners and a confidence": ("0 0.1 0.2 0.5 0.3 0.4 0.8 1", [0, 0.2, 0.1, 0.8, 0.5]),
    "four corners": ("0 0.6 0.2 0.5 0.3 0.4 0.8 0.5 0.5", [0, 0.2, 0.4, 0.8, 0.6]),
    "a decimal class": ("1.0 0.5 0.5 0.2 0.4", [1, 0.3, 0.4, 0.7, 0.6]),
    "a class with an exponent": ("1e+00 5e-1 .5 0.2 0.4", [1, 0.3, 0.4, 0.7, 0.6]),
}


@pytest.mark.parametrize("kind", LINES)
def test_each_kind_of_line_gives_the_right_box(tmp_path: Path, kind: str) -> None:
    line, expected = LINES[kind]
    assert boxes(tmp_path, f"{line}\n") == [expected]


TRACKS = {
    "boxes": ("1 0.5 0.5 0.2 0.4 0.9 1\n0 0.5 0.5 0.2 0.4 0.8 12\n", [0.3, 0.4, 0.7, 0.6]),
    "a single track": ("1 0.5 0.5 0.2 0.4 0.9 1\n", [0.3, 0.4, 0.7, 0.6]),
    "boxes without a track": (
        "1 0.5 0.5 0.2 0.4 0.9\n0 0.5 0.5 0.2 0.4 0.8 2\n",
        [0.3, 0.4, 0.7, 0.6],
    ),
    "polygons": (
        "1 0.1 0.2 0.5 0.3 0.4 0.8 0.9 1\n0 0.1 0.2 0.5 0.3 0.4 0.8 0.7 2\n",
        [0.2, 0.1, 0.8, 0.5],
    ),
}


@pytest.mark.parametrize("kind", TRACKS)
def test_a_confidence_and_a_track_after_every_object_are_not_a_corner(
    tmp_path: Path, kind: str
) -> None:
    lines, expected = TRACKS[kind]
    assert [box for _, *box in boxes(tmp_path, lines)] == [expected] * lines.count("\n")


@pytest.mark.parametrize("other", ["0.1 0.2 0.5 0.3 0.4 0.8", "0.1 0.2 0.5 0.3 0.3 0.5 0.4 1"])
def test_corners_on_the_lower_edge_are_not_tracks_beside_other_polygons(
    tmp_path: Path, other: str
) -> None:
    found = boxes(tmp_path, f"0 0.1 0.2 0.5 0.3 0.4 1\n1 {other}\n")
    assert found == [[0, 0.2, 0.1, 1.0, 0.5], [1, 0.2, 0.1, float(other.split()[-1]), 0.5]]


def test_keypoints_after_a_box_are_not_a_polygon(tmp_path: Path) -> None:
    about = {"data.yaml": "names: [a]\nkpt_shape: [2, 2]\n"}
    assert boxes(tmp_path, "0 0.5 0.5 0.2 0.4 0 0 1 1\n", **about) == [[0, 0.3, 0.4, 0.7, 0.6]]


@pytest.mark.parametrize("line", ["0.5 0.5 0.5 1 1", "nan 0.5 0.5 1 1", "0 .1 .1 .2 nan .3 .3"])
def test_invalid_numbers_are_reported_with_their_place(tmp_path: Path, line: str) -> None:
    with pytest.raises(DataError, match="labels/1.txt:1: "):
        boxes(tmp_path, line)


def test_label_files_may_be_in_utf_16(tmp_path: Path) -> None:
    path = write(tmp_path, pairs("images/1"))
    (path / "labels/1.txt").write_bytes(LINE.encode("utf-16"))
    assert opened(path, classes=("a",))["all"].counts().tolist() == [1]


def test_a_folder_and_its_archive_hold_out_the_same_images(tmp_path: Path) -> None:
    path = write(tmp_path / "d", pairs(*(f"images/été {n}" for n in range(20))))

    def held_out(place: Path) -> dict[str, list[str]]:
        source = Yolo(kind="yolo", path=str(place), classes=("a", "b"))
        return names(open_splits(Data(source=source)))

    assert held_out(path) == held_out(zipped(path))
