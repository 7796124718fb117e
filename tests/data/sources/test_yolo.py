"""Guards YOLO's text files in both folder layouts, and errors about faulty lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.yolo import Yolo
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.sources import Source
from cvpipe.data.sources.yolo import yolo
from cvpipe.errors import DataError
from image_files import zipped

FILES = {
    "data.yaml": "train: images/train\nnames: [cat, dog]\n",
    "images/train/a.jpg": "a",
    "labels/train/a.txt": "1 0.5 0.25 0.2 0.1\n\n0 0.5 0.5 1 1\n",
    "images/train/b.png": "b",
    "images/val/c.jpg": "c",
    "labels/val/c.txt": "",
}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def opened(path: Path, **settings: Any) -> dict[str, Source]:
    return yolo(Yolo(kind="yolo", path=str(path), **settings))


@pytest.mark.parametrize("place", [lambda root: root, zipped], ids=["folder", "zip"])
@pytest.mark.parametrize("layout", ["split inside", "split outside"])
def test_a_line_is_an_object_in_either_layout(
    tmp_path: Path, place: Callable[[Path], Path], layout: str
) -> None:
    swapped = {
        "/".join([*name.split("/")[1::-1], *name.split("/")[2:]]) if "/" in name else name: text
        for name, text in FILES.items()
    }
    splits = opened(place(write(tmp_path / "data", FILES if layout == "split inside" else swapped)))
    assert {split: len(source) for split, source in splits.items()} == {"train": 2, "validation": 1}
    source = splits["train"]
    assert source.classes == ("cat", "dog")
    example = source.read(tf.constant(0, tf.int64))
    assert example["bytes"].numpy() == b"a" and example["labels"].numpy().tolist() == [1, 0]
    np.testing.assert_allclose(
        example["boxes"], [[0.2, 0.4, 0.3, 0.6], [0.0, 0.0, 1.0, 1.0]], atol=1e-7
    )
    assert source.read(tf.constant(1, tf.int64))["boxes"].shape == (0, 4)
    assert not source.annotation(Boxes).faults


def test_classes_come_from_the_pipeline_or_from_a_mapping(tmp_path: Path) -> None:
    path = write(tmp_path, {**FILES, "data.yaml": "names:\n  1: hound\n  0: puss\n"})
    assert opened(path)["train"].classes == ("puss", "hound")
    assert opened(path, classes=("x", "y"))["train"].classes == ("x", "y")


def test_text_files_without_an_image_are_counted(tmp_path: Path) -> None:
    source = opened(write(tmp_path, {**FILES, "labels/train/z.txt": "0 0.5 0.5 1 1\n"}))["train"]
    assert source.annotation(Boxes).faults == {
        "labels/train/z.txt": {"of a missing image, left out": 1}
    }


def test_without_split_folders_there_is_one_split(tmp_path: Path) -> None:
    splits = opened(
        write(tmp_path, {"images/a.jpg": "a", "labels/a.txt": "0 0.9 0.5 0.4 1\n"}),
        classes=("cat",),
    )
    assert splits["all"].annotation(Boxes).faults == {"labels/a.txt": {"clipped to the image": 1}}


MISTAKES: dict[str, tuple[dict[str, str], str]] = {
    "a short line": (
        {"labels/train/a.txt": "0 1 1\n"},
        "labels/train/a.txt:1: the line has 3 columns, but must be class, cx, cy, width, height",
    ),
    "no number": (
        {"labels/train/a.txt": "\n0 0.5 x 1 1\n"},
        "labels/train/a.txt:2: the line '0 0.5 x 1 1' must begin with the whole number of a cl",
    ),
    "a class name": (
        {"labels/train/a.txt": "cat 0.5 0.5 1 1\n"},
        "the line 'cat 0.5 0.5 1 1' must begin with the whole number of a class",
    ),
    "NaN": (
        {"labels/train/a.txt": "0 0.5 nan 1 1\n"},
        "labels/train/a.txt:1: a coordinate isn't a finite number",
    ),
    "an unknown class": (
        {"labels/train/a.txt": "2 0.5 0.5 1 1\n"},
        "a.txt:1: no class has the number 2; correct it, or name more classes .known: 0 cat, 1 dog",
    ),
    "no names": ({"data.yaml": "nc: 2\n"}, "data.yaml: names must be a list of class names, or"),
    "no YAML": (
        {"data.yaml": "names: ["},
        "data.yaml:1: not valid YAML: expected the node content",
    ),
    "a name twice": ({"data.yaml": "names: [cat, cat]"}, "two classes are named 'cat'; name"),
    "a stray image": (
        {"images/x.jpg": "x", "data.yaml": "names: [cat, dog]"},
        "images/x.jpg is in no split's folder, unlike other files; move it into a folder",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_fault_is_named_with_its_place(tmp_path: Path, mistake: str) -> None:
    changes, message = MISTAKES[mistake]
    with pytest.raises(DataError, match=message):
        opened(write(tmp_path, {**FILES, **changes}))


@pytest.mark.parametrize(
    "without, settings, message",
    [
        ("images", {}, "no image in a folder named 'images'; set data.source.images"),
        (
            "labels",
            {},
            "no text file in a folder named 'labels', or beside an image; set data.source.labels",
        ),
        (
            "data",
            {},
            (
                "data.yaml: no such file, and the class names are needed; set data.source.names to"
                " the file with the class names, or data.source.classes"
            ),
        ),
    ],
)
def test_missing_files_are_an_error_sentence(
    tmp_path: Path, without: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        opened(
            write(
                tmp_path,
                {name: text for name, text in FILES.items() if not name.startswith(without)},
            ),
            **settings,
        )
