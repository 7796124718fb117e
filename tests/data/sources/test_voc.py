"""Guards Pascal VOC's XML: pixels counted from 1, missing elements, and a real data set."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from conftest import FindData
from cvpipe.config.data import Data
from cvpipe.config.voc import Voc
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.decode import decode_image
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.voc import voc
from cvpipe.errors import DataError
from image_files import encode, noise, zipped

SIZE = "<size><width>40</width><height>20</height><depth>3</depth></size>"


def item(name: str, *corners: Any, more: str = "") -> str:
    """Return an object element; the corners are xmin, ymin, xmax, ymax."""
    sides = "".join(
        f"<{side}>{value}</{side}>"
        for side, value in zip(("xmin", "ymin", "xmax", "ymax"), corners)
    )
    return f"<object><name>{name}</name>{more}<bndbox>{sides}</bndbox></object>"


def write(
    root: Path, annotations: dict[str, str], images: Sequence[str] | None = None, **lists: str
) -> Path:
    """Write XML files with these contents, gray images of 20 × 40 pixels, and lists."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name, content in annotations.items():
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{content}</annotation>")
    for name in annotations if images is None else images:
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(encode(noise(20, 40), "JPEG"))
    for name, content in lists.items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text(content)
    return root


def opened(path: Path, **settings: Any) -> dict[str, Source]:
    return voc(Voc(kind="voc", path=str(path), **settings))


def boxes(source: Source, index: int) -> list[list[float]]:
    """Return boxes in pixels of an image of 20 × 40."""
    values: list[list[float]] = np.round(
        source.read(tf.constant(index, tf.int64))["boxes"].numpy() * [20, 40, 20, 40], 3
    ).tolist()
    return values


THREE = {
    "a": SIZE + item("dog", 1, 1, 40, 20) + item("cat", 11, 6, 20, 10),
    "b": SIZE,
    "c": SIZE + item("cat", 2, 3, 4, 5),
}


@pytest.mark.parametrize("place", [lambda root: root, zipped], ids=["folder", "zip"])
def test_lists_assign_images_to_splits(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    path = place(write(tmp_path / "data", THREE, train="a\nb\n\n", test="c -1\n"))
    splits = opened(path)
    assert {split: source.names() for split, source in splits.items()} == {
        "train": ["JPEGImages/a.jpg", "JPEGImages/b.jpg"],
        "test": ["JPEGImages/c.jpg"],
    }
    assert splits["test"].classes == ("cat", "dog")
    assert (
        boxes(splits["train"], 0) == [[0, 0, 20, 40], [5, 10, 10, 20]]
        and boxes(splits["train"], 1) == []
    )
    example = splits["train"].read(tf.constant(0, tf.int64))
    assert example["labels"].numpy().tolist() == [1, 0] and example["area"].numpy().tolist() == [
        -1,
        -1,
    ]
    assert decode_image(example["bytes"], 3).shape == (20, 40, 3)


def test_without_lists_of_splits_all_annotated_images_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "data", THREE, images=["a", "b", "c", "d"])
    with caplog.at_level(logging.WARNING):
        splits = opened(path)
    assert splits["all"].names() == ["JPEGImages/a.jpg", "JPEGImages/b.jpg", "JPEGImages/c.jpg"]
    assert caplog.messages == [
        f"{path}: left out 1 image without an XML file, such as JPEGImages/d.jpg"
    ]


def test_boxes_counted_from_0_are_not_shifted(tmp_path: Path) -> None:
    path = write(
        tmp_path / "data", {"a": SIZE + item("cat", 0, 0, 40, 20) + item("cat", 2.5, 3, 4, 5)}
    )
    assert boxes(opened(path, one_based=False)["all"], 0) == [[0, 0, 20, 40], [3, 2.5, 5, 4]]


def test_difficult_objects_are_crowds_and_parts_are_ignored(tmp_path: Path) -> None:
    part = (
        "<part><name>head</name><bndbox>"
        "<xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    )
    hard = item("cat", 1, 1, 9, 9, more="<difficult>1</difficult>")
    path = write(
        tmp_path / "data",
        {"a": SIZE + hard + item("cat", 1, 1, 5, 5, more=part + "<difficult>0</difficult>")},
    )
    example = opened(path)["all"].read(tf.constant(0, tf.int64))
    assert example["crowd"].numpy().tolist() == [True, False] and len(example["labels"]) == 2


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>", "<size/>"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_a_missing_size_is_read_from_the_image(tmp_path: Path, size: str, kind: str) -> None:
    path = write(tmp_path / "data", {"a": size + item("cat", 11, 6, 20, 10)})
    (path / "JPEGImages" / "a.jpg").write_bytes(encode(noise(20, 40), kind))
    assert boxes(opened(path)["all"], 0) == [[5, 10, 10, 20]]


def test_faulty_boxes_are_left_out_and_counted(tmp_path: Path) -> None:
    faulty = [(5, 5, 5, 5), (9, 5, 4, 8), (60, 5, 70, 8), (5, 5, 90, 8), (1, 1, 9, 9), (1, 1, 9, 9)]
    source = opened(
        write(
            tmp_path / "data",
            {"a": SIZE + "".join(item("cat", *corners) for corners in faulty), "b": SIZE},
        )
    )["all"]
    assert source.annotation(Boxes).faults == {
        "Annotations/a.xml": {
            "without area, left out": 1,
            "with corners in the wrong order, left out": 1,
            "outside the image, left out": 1,
            "clipped to the image": 1,
            "repeated, left out": 1,
        }
    }
    assert boxes(source, 0) == [[4, 4, 8, 40], [0, 0, 9, 9]]


def test_a_missing_image_is_a_bad_record_and_its_objects_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "data", THREE, images=["b", "c"])
    with caplog.at_level(logging.WARNING):
        source = opened(path)["all"]
        quarantine = Quarantine(source, "train", 1.0)
        quarantine.note(0)
    assert source.annotation(Boxes).faults == {
        "Annotations/a.xml": {"of a missing image, left out": 2}
    }
    assert len(source) == 3 and list(quarantine.names.values()) == ["the file is missing"]


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no number": (
        {"annotations": {"a": SIZE + item("cat", 1, 1, 9, 9) + item("dog", 1, "abc", 9, 9)}},
        "Annotations/a.xml: object 2 .dog.: bndbox/ymin is 'abc', not a number; correct it",
    ),
    "not a number": (
        {"annotations": {"a": SIZE + item("cat", "nan", 1, 9, 9)}},
        (
            "Annotations/a.xml: object 1 .cat.: a coordinate isn't a finite number; correct or"
            " remove the object"
        ),
    ),
    "no corner": (
        {"annotations": {"a": SIZE + item("cat", 1, 1, 9)}},
        "object 1 .cat.: bndbox/ymax is '', not a number",
    ),
    "no name": (
        {"annotations": {"a": SIZE + item(" ", 1, 1, 9, 9)}},
        "Annotations/a.xml: object 1 has no name; add it",
    ),
    "no XML": (
        {"annotations": {"a": "<b>"}},
        "Annotations/a.xml:1: not valid XML .*; correct the file",
    ),
    "no flag": (
        {"annotations": {"a": SIZE + item("cat", 1, 1, 9, 9, more="<difficult>no</difficult>")}},
        "Annotations/a.xml: object 1 .cat.: difficult is 'no', but must be 0, 1, true, false or",
    ),
    "objects in a list": (
        {"annotations": {"a": f"{SIZE}<objects>{item('cat', 1, 1, 9, 9)}</objects>"}},
        "Annotations/a.xml: there is <object>, but no <object> directly in <annotation>, where",
    ),
    "polygons beside": (
        {"annotations": {"a": f"{SIZE}<shape><points>1,2;3,4</points></shape>"}},
        "Annotations/a.xml: there is <points>, but no <object> directly in <annotation>",
    ),
    "no annotation": (
        {"annotations": THREE, "train": "a\nbb\n"},
        "Annotations/bb.xml: no such file; did you mean 'Annotations/b.xml'",
    ),
    "no image": (
        {"annotations": THREE, "images": []},
        "JPEGImages: none of the annotated images exists; set data.source.images to the folder of"
        " the images",
    ),
    "no training list": (
        {"annotations": THREE, "test": "a\n"},
        "Main/train.txt: no such list, although there is ImageSets/Main/test.txt; add the list",
    ),
    "an empty list": (
        {"annotations": THREE, "train": "\n"},
        "Main/train.txt: the list is empty; add names of images, or remove the list",
    ),
    "nothing": (
        {"annotations": {}},
        "Annotations: no XML file there; set `root` and `annotations` in data.source to where the",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_fault_is_named_with_its_place(tmp_path: Path, mistake: str) -> None:
    files, message = MISTAKES[mistake]
    with pytest.raises(DataError, match=message):
        opened(write(tmp_path / "data", **files))


OTHERS = {
    "CVAT": (
        '<annotations><image name="a.jpg"><box label="cat" xtl="1" ytl="1"/></image></annotations>',
        "the root element is <annotations> (this may be CVAT's own format), but Pascal VOC's is"
        " <annotation>; export the annotations as Pascal VOC, or give another folder",
    ),
    "a feed": ("<rss><item/></rss>", "the root element is <rss>, but Pascal VOC's is"),
    "a namespace of its own": (
        '<a:Annotation xmlns:a="http://example.com"><a:object/></a:Annotation>',
        "the root element is <Annotation>, but",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_format_is_distinguished_from_an_image_without_objects(
    tmp_path: Path, other: str
) -> None:
    content, message = OTHERS[other]
    path = write(tmp_path / "data", {"a": SIZE})
    (path / "Annotations" / "a.xml").write_text(content)
    with pytest.raises(DataError) as raised:
        opened(path)
    assert f"Annotations/a.xml: {message}" in str(raised.value)


@pytest.mark.parametrize(
    "names", ['xmlns="http://example.com/voc"', 'xmlns:v="http://example.com/voc"']
)
def test_a_namespace_changes_nothing(tmp_path: Path, names: str) -> None:
    path = write(tmp_path / "data", {"a": ""})
    content = f"<annotation {names}>{SIZE}<!-- a note -->{item('cat', 11, 6, 20, 10)}</annotation>"
    if "xmlns:v" in names:
        content = re.sub(r"<(/?)(?=[a-z])", r"<\1v:", content)
    (path / "Annotations" / "a.xml").write_text(content)
    source = opened(path)["all"]
    assert source.classes == ("cat",) and boxes(source, 0) == [[5, 10, 10, 20]]


def test_an_unknown_class_is_an_error_that_lists_the_known_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "data", {"a": SIZE + item("dgo", 1, 1, 9, 9)})
    with pytest.raises(
        DataError,
        match=(
            "object 1 .dgo.: data.source.classes has no class 'dgo'; did you mean 'dog'. known:"
            " dog, cat"
        ),
    ):
        opened(path, classes=("dog", "cat"))


def test_images_in_two_splits_and_twice_in_a_list_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "data", THREE, train="a\nb\na\n", test="a\nc\n")
    with caplog.at_level(logging.WARNING):
        assert len(opened(path)["train"]) == 2
    assert "left out 1 image of 3 that an earlier line names already" in caplog.text
    assert (
        "the training split has 1 image of the test split too, such as JPEGImages/a.jpg; scores on"
        " the test split will be too good" in caplog.text
    )


def test_bccd_is_read_with_its_lists_and_two_faults_are_counted(
    public_data: FindData, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        splits = open_splits(
            Data(source=Voc(kind="voc", path=str(public_data("bccd")), root="BCCD"))
        )
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 205,
        "validation": 87,
        "test": 72,
    }
    assert splits["train"].classes == ("Platelets", "RBC", "WBC")
    assert sum(split.counts() for split in splits.values()).tolist() == [361, 4155 - 2, 372]  # type: ignore[union-attr]
    [warning] = caplog.messages
    assert (
        "2 without area, left out: " in warning
        and "BloodImage_00338.xml (1" in warning
        and "BloodImage_00343.xml (1" in warning
    )
    example = splits["test"].read(tf.constant(0, tf.int64))
    assert decode_image(example["bytes"], 3).shape == (480, 640, 3)
