"""Guards TFRecords of tf.train.Example: the keys of each tool, random access, and bad records."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.group import Group
from cvpipe.config.record_files import TfRecord, TfRecordBoxes, TfRecordMasks
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.annotations.label import Label
from cvpipe.data.check import check
from cvpipe.data.formats import find_formats
from cvpipe.data.sources import open_source, tfrecord_index
from cvpipe.data.sources.groups import group_names
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.tfrecord import tfrecord
from cvpipe.errors import DataError
from cvpipe.init import data_of
from image_files import encode, noise, zipped
from record_writers import write_tfrecord

SIZE = (40, 50)
FILES = [encode(noise(*SIZE, seed=n), "JPEG") for n in range(6)]
MASK = encode((np.arange(40 * 50).reshape(40, 50, 1) % 3).astype(np.uint8), "PNG")
Rows = list[Mapping[str, Any]]


def labeled(*labels: Any, **more: Any) -> Rows:
    """Examples with the features of Model Garden's classification."""
    return [
        {"image/encoded": FILES[n], "image/class/label": label, **more}
        for n, label in enumerate(labels)
    ]


def with_boxes(number: int, boxes: list[list[float]], labels: list[Any], **more: Any) -> Any:
    """An example with the features of Model Garden's detection and of the Object Detection API."""
    sides = dict(zip(("ymin", "xmin", "ymax", "xmax"), zip(*boxes, strict=True), strict=False))
    return {
        "image/encoded": FILES[number],
        "image/object/class/label": labels,
        **{f"image/object/bbox/{side}": list(map(float, each)) for side, each in sides.items()},
        **{f"image/object/{name}": value for name, value in more.items()},
    }


def labels(path: Path, **more: Any) -> dict[str, Source]:
    return tfrecord(TfRecord(kind="tfrecord", path=str(path), **more))


def objects(path: Path, **more: Any) -> dict[str, Source]:
    return tfrecord(TfRecordBoxes(kind="tfrecord", path=str(path), **more))


def masks(path: Path, **more: Any) -> dict[str, Source]:
    return tfrecord(TfRecordMasks(kind="tfrecord", path=str(path), **more))


def contents(source: Source) -> list[bytes]:
    return [source.read(tf.constant(n, tf.int64))["bytes"].numpy() for n in range(len(source))]


def flipped(file: Path, content: bytes) -> None:
    """Flip a byte in the middle of this content inside a file."""
    data = bytearray(file.read_bytes())
    data[data.index(content) + len(content) // 2] ^= 1
    file.write_bytes(data)


# -- Labels


def test_the_names_of_shards_decide_their_split(tmp_path: Path) -> None:
    rows = labeled(2, 1, 2, 1, 2)
    write_tfrecord(tmp_path / "train-00000-of-00002", rows[:3])
    write_tfrecord(tmp_path / "train-00001-of-00002", rows[3:])
    write_tfrecord(tmp_path / "validation-00000-of-00001", labeled(1))
    splits = labels(tmp_path)
    assert {split: contents(each) for split, each in splits.items()} == {
        "train": FILES[:5],
        "validation": FILES[:1],
    }
    assert splits["train"].classes == ("1", "2")
    assert splits["train"].annotation(Label).labels.tolist() == [1, 0, 1, 0, 1]
    assert splits["train"].names()[4] == "train-00001-of-00002 record 1"


def test_examples_are_read_in_any_order(tmp_path: Path) -> None:
    write_tfrecord(tmp_path / "a.tfrecord", labeled(*range(6)))
    source = labels(tmp_path)["all"]
    order = [5, 0, 3, 1, 4, 2, 5]
    read = [source.read(tf.constant(n, tf.int64))["bytes"].numpy() for n in order]
    assert read == [FILES[n] for n in order]


def test_patterns_choose_the_files_of_a_split(tmp_path: Path) -> None:
    for name in ("x_00", "x_01", "x_02", "y"):
        write_tfrecord(tmp_path / f"sub/{name}.tfrecord", labeled(0, 1))
    splits = labels(tmp_path, train="sub/x_{00..01}.tfrecord", test="sub/y*")
    assert {split: len(each) for split, each in splits.items()} == {"train": 4, "test": 2}
    for patterns, message in (
        ({"train": "sub/x_{00..03}.*"}, r"data.source.train: no file sub/x_03\.\*"),
        ({"train": "*"}, r"no file \* in"),
        ({"train": "sub/*", "test": "sub/y*"}, "sub/y.tfrecord also fits data.source.train"),
    ):
        with pytest.raises(DataError, match=message):
            labels(tmp_path, **patterns)


@pytest.mark.parametrize(
    "name, content, keys, classes",
    [
        (
            "map.pbtxt",
            "item { id: 5 name: '/m/1' display_name: \"cat\" }\n# x\nitem {id: 2\nname: 'dog'}",
            {},
            ("dog", "cat"),
        ),
        ("label_map.txt", "a\nb\ndog\nc\nd\ncat\n", {}, ("a", "b", "dog", "c", "d", "cat")),
        ("labels.txt", "2:dog\n5:cat\n", {}, ("dog", "cat")),
        ("names.txt", "a\ndog\nc\nd\ncat\n", {"first_label": 1}, ("a", "dog", "c", "d", "cat")),
        ("map.csv", "5,cat\n2,dog\n", {}, ("dog", "cat")),
    ],
)
def test_a_label_map_names_the_classes_and_is_found_by_detection(
    name: str, content: str, keys: dict[str, Any], classes: tuple[str, ...], tmp_path: Path
) -> None:
    write_tfrecord(tmp_path / "train.tfrecord", labeled(2, 5, 2))
    (tmp_path / name).write_text(content)
    source = labels(tmp_path, names=name, **keys)["train"]
    assert source.classes == classes
    named = [source.classes[label] for label in source.annotation(Label).labels]
    assert named == ["dog", "cat", "dog"]
    found = find_formats(str(tmp_path))[0].source
    if not name.endswith(".csv"):
        assert found == {"kind": "tfrecord", "path": str(tmp_path), "names": name, **keys}


def test_without_a_label_map_classes_are_named_by_the_text_feature(tmp_path: Path) -> None:
    rows = labeled(3, 1, 3)
    for row, text in zip(rows, ("cow", "ant", "cow"), strict=True):
        row["image/class/text"] = text  # type: ignore[index]
    write_tfrecord(tmp_path / "a.tfrecord", rows)
    source = labels(tmp_path)["all"]
    assert source.classes == ("ant", "cow")
    assert source.annotation(Label).labels.tolist() == [1, 0, 1]
    rows[2]["image/class/text"] = "bee"  # type: ignore[index]
    write_tfrecord(tmp_path / "a.tfrecord", rows)
    with pytest.raises(DataError, match="class 3 is called 'bee' here, but 'cow' in .* record 0"):
        labels(tmp_path)


def test_keys_of_tensorflow_datasets_are_found(tmp_path: Path) -> None:
    rows = [{"image": FILES[n], "label": n % 2, "image/filename": f"p{n}.jpg"} for n in range(4)]
    write_tfrecord(tmp_path / "pets-train.tfrecord-00000-of-00001", rows)
    (tmp_path / "label.labels.txt").write_text("yak\nant\n")
    found = find_formats(str(tmp_path))[0]
    assert found.source == {
        "kind": "tfrecord",
        "path": str(tmp_path),
        "image": "image",
        "label": "label",
        "names": "label.labels.txt",
    }
    data = data_of(found)
    [source] = open_source(data.source, data).values()
    assert source.classes == ("yak", "ant") and contents(source) == FILES[:4]
    assert group_names(source, Group(column="image/filename"))[3] == "p3.jpg"
    assert group_names(source, Group(pattern=r"^(p\d)\."))[3] == "p3"


def test_an_archive_is_unpacked_and_read_like_a_folder(tmp_path: Path) -> None:
    write_tfrecord(tmp_path / "d/train.tfrecord", labeled(0, 1, 1))
    (tmp_path / "d/labels.txt").write_text("a\nb\n")
    plain, packed = (
        labels(each, names="labels.txt") for each in (tmp_path / "d", zipped(tmp_path / "d"))
    )
    assert contents(packed["train"]) == contents(plain["train"]) == FILES[:3]
    assert packed["train"].digest() == plain["train"].digest()


# -- Boxes


BOXES = [[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 1.0, 0.5], [0.25, 0.5, 0.75, 1.0]]


def test_boxes_flags_and_areas_are_read(tmp_path: Path) -> None:
    rows = [
        with_boxes(0, BOXES[:2], [7, 3], **{"class/text": ["cat", "dog"], "is_crowd": [0, 1]}),
        with_boxes(1, [], []),
        with_boxes(2, BOXES[2:], [3], **{"class/text": ["dog"], "difficult": [1], "area": [9.0]}),
    ]
    write_tfrecord(tmp_path / "train.record", rows)
    source = objects(tmp_path)["train"]
    assert source.classes == ("dog", "cat")
    boxes = source.annotation(Boxes)
    np.testing.assert_allclose(boxes.boxes, BOXES, atol=1e-6)
    assert boxes.labels.tolist() == [1, 0, 0] and boxes.starts.tolist() == [0, 2, 2, 3]
    assert boxes.crowd.tolist() == [False, True, True] and boxes.area.tolist() == [-1, -1, 9]
    assert find_formats(str(tmp_path))[0].task == "detection"


def test_class_names_without_numbers_are_read(tmp_path: Path) -> None:
    row = with_boxes(0, BOXES, [], **{"class/text": ["dog", "cat", "dog"]})
    write_tfrecord(tmp_path / "train.tfrecord", [row])
    source = objects(tmp_path)["train"]
    assert source.classes == ("cat", "dog")
    assert source.annotation(Boxes).labels.tolist() == [1, 0, 1]


def test_boxes_of_tensorflow_datasets_are_read_from_one_feature(tmp_path: Path) -> None:
    row = {
        "image": FILES[0],
        "objects/bbox": list(np.ravel(BOXES)),
        "objects/label": [0, 1, 1],
        "objects/is_difficult": [0, 1, 0],
    }
    write_tfrecord(tmp_path / "voc-train.tfrecord-00000-of-00001", [row])
    found = find_formats(str(tmp_path))[0]
    assert found.task == "detection"
    data = data_of(found)
    boxes = open_source(data.source, data)["train"].annotation(Boxes)
    np.testing.assert_allclose(boxes.boxes, BOXES, atol=1e-6)
    assert boxes.crowd.tolist() == [False, True, False]


def test_invalid_boxes_are_counted(tmp_path: Path) -> None:
    bad = [[0.5, 0.1, 0.2, 0.3], [1.2, 0.1, 1.5, 0.3], [0.1, 0.1, 0.1, 0.3], [0.5, 0.5, 1.5, 0.9]]
    write_tfrecord(tmp_path / "train.tfrecord", [with_boxes(0, bad, [1] * 4)])
    boxes = objects(tmp_path)["train"].annotation(Boxes)
    assert boxes.faults == {
        "train.tfrecord record 0": {
            "with corners in the wrong order, left out": 1,
            "outside the image, left out": 1,
            "without area, left out": 1,
            "clipped to the image": 1,
        }
    }
    np.testing.assert_allclose(boxes.boxes, [[0.5, 0.5, 1, 0.9]])


# -- Masks


def test_masks_are_read_with_their_classes(tmp_path: Path) -> None:
    rows = [{"image/encoded": FILES[n], "image/segmentation/class/encoded": MASK} for n in range(2)]
    write_tfrecord(tmp_path / "train.tfrecord", [*rows, {"image/encoded": FILES[2]}])
    source = masks(tmp_path, classes=("sky", "land", "sea"))["train"]
    example_read = source.read(tf.constant(1, tf.int64))
    assert example_read["bytes"].numpy() == FILES[1]
    np.testing.assert_array_equal(
        example_read["mask"].numpy()[..., 0], np.arange(40 * 50).reshape(40, 50) % 3
    )
    with pytest.raises(DataError, match="the example has no 'image/segmentation/class/encoded'"):
        source.read(tf.constant(2, tf.int64))
    found = {each.task: each.source for each in find_formats(str(tmp_path))}["segmentation"]
    assert found["classes"] == ["class_0", "class_1", "class_2"]
    with pytest.raises(DataError, match="a value that no class has: 2"):
        masks(tmp_path, classes=("sky", "land"))


def test_bad_masks_are_bad_records(tmp_path: Path) -> None:
    small = encode(np.zeros((20, 50, 1), np.uint8), "PNG")
    drawn = (MASK, b"no mask", small)
    rows = [
        {"image/encoded": FILES[n], "image/segmentation/class/encoded": mask}
        for n, mask in enumerate(drawn)
    ]
    write_tfrecord(tmp_path / "train.tfrecord", rows)
    source = masks(tmp_path, classes=("sky", "land", "sea"))["train"]
    broken = check({"train": source}, 3)["broken"]
    assert [row["record"].rpartition(" ")[2] for row in broken] == ["1", "2"]
    assert "the mask is damaged" in broken[0]["reason"]
    assert "the mask is 50 x 20 pixels, and its image 50 x 40" in broken[1]["reason"]


# -- Faults


def test_a_wrong_checksum_is_a_bad_record_and_does_not_affect_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_tfrecord(
        tmp_path / "train.tfrecord", [with_boxes(n, BOXES, [1] * 3) for n in range(4)]
    )
    flipped(file, FILES[1])
    source = objects(tmp_path)["train"]
    assert len(source) == 4 and source.annotation(Boxes).starts.tolist() == [0, 3, 3, 6, 9]
    found = check({"train": source}, 3)
    assert [row["reason"] for row in found["broken"]] == [
        "the record is damaged: its checksum is wrong"
    ]
    write_tfrecord(file, labeled(0, 1, 0))
    flipped(file, FILES[1])
    with caplog.at_level(logging.WARNING):
        source = labels(tmp_path)["train"]
    assert contents(source) == [FILES[0], FILES[2]]
    assert "left out 1 record of the train split that is damaged, such as train.tf" in caplog.text


def test_examples_without_class_or_image_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows: Rows = [*labeled(0, -1, 1), {"image/encoded": FILES[3]}, {"image/class/label": 1}]
    write_tfrecord(tmp_path / "train.tfrecord", [*rows, b"\x0a\xff no example"])
    with caplog.at_level(logging.WARNING):
        source = labels(tmp_path)["train"]
    assert source.annotation(Label).labels[source.records].tolist() == [0, 1, 1]
    assert "left out 2 records of the train split that are without a class" in caplog.text
    assert "left out 1 record of the train split that is damaged" in caplog.text
    with pytest.raises(DataError, match="the example has no 'image/encoded'"):
        source.read(tf.constant(2, tf.int64))


def test_a_file_that_is_cut_off_is_refused_before_any_row_is_read(tmp_path: Path) -> None:
    file = write_tfrecord(tmp_path / "train.tfrecord", labeled(0, 1, 0))
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"train.tfrecord: cut off or damaged at record 2; fetch"):
        labels(tmp_path)
    damaged = bytearray(whole)
    # The length of the second record.
    start = 16 + int.from_bytes(whole[:8], "little")
    damaged[start] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(DataError, match="cut off or damaged at record 1"):
        labels(tmp_path)


def test_it_is_an_error_if_most_records_are_damaged(tmp_path: Path) -> None:
    file = write_tfrecord(tmp_path / "train.tfrecord", labeled(0, 1, 0))
    flipped(file, FILES[1])
    flipped(file, FILES[2])
    with pytest.raises(DataError, match="2 of the split's 3 records can't be read"):
        labels(tmp_path)


def test_each_fault_is_an_error_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fails(match: str, **more: Any) -> None:
        with pytest.raises(DataError, match=match):
            (objects if "objects" in more else labels)(tmp_path, **more.get("keys", {}))

    fails("holds no TFRecord file")
    file = tmp_path / "train.tfrecord"
    file.write_bytes(b"")
    fails("each TFRecord file of the training split is empty")
    file.write_bytes(b"no record at all")
    fails("not a TFRecord file, or its first bytes are damaged")
    file.write_bytes(gzip.compress(b"1"))
    fails("compressed by gzip, so examples can't be read by position; unpack it with gunzip")
    write_tfrecord(file, labeled(0, 4))
    fails(
        r"record 1: no class has the number 4; known: 0 \(a\), 1 \(b\)",
        keys={"classes": ("a", "b")},
    )
    fails(
        "no example has a usable 'pixels'; the features of the first example are image/class/label",
        keys={"image": "pixels"},
    )
    fails("no example has a usable 'kind'", keys={"label": "kind"})
    fails("names.txt: no such file", keys={"names": "names.txt"})
    (tmp_path / "map.pbtxt").write_text("item { id: 1 ")
    fails(r"map.pbtxt: not a label map", keys={"names": "map.pbtxt"})
    (tmp_path / "map.pbtxt").write_text("item { id: 1 name: 'a' } item { id: 1 name: 'b' }")
    fails("two classes have the number 1", keys={"names": "map.pbtxt"})
    (tmp_path / "names.txt").write_text("a\na\n")
    fails("two classes are named 'a'", keys={"names": "names.txt"})
    write_tfrecord(file, [{"image/encoded": FILES[0], "image/class/label": 0.5}])
    fails("'image/class/label' is 0.5, neither a class's number nor its name")
    write_tfrecord(file, [with_boxes(0, BOXES, [1])])
    fails("'image/object/bbox/ymin' has 3 values for 1 object", objects=True)
    write_tfrecord(file, [with_boxes(0, BOXES, [0, 1, 4])])
    fails("record 0: no class has the number 4", objects=True, keys={"classes": ("a", "b")})
    write_tfrecord(file, [with_boxes(0, [[0.1, 0.1, float("inf"), 0.5]], [1])])
    fails("record 0: a coordinate isn't a finite number", objects=True)
    row = with_boxes(0, BOXES, [1] * 3)
    del row["image/object/bbox/xmax"]
    write_tfrecord(file, [row])
    fails("3 classes and 0 whole boxes in 'image/object/bbox'", objects=True)
    write_tfrecord(tmp_path / "more.tfrecord", labeled(0))
    fails("the path of more.tfrecord names no split, but the path of another TFRecord file does")


def test_empty_files_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_tfrecord(tmp_path / "train-00000-of-00002", labeled(0, 1))
    (tmp_path / "train-00001-of-00002").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert len(labels(tmp_path)["train"]) == 2
    assert "left out 1 empty file, such as train-00001-of-00002" in caplog.text


def test_the_index_of_a_file_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tfrecord_index, "LEAST_REMEMBERED", 3)
    write_tfrecord(tmp_path / "data/train.tfrecord", labeled(0, 1, 0))
    first = contents(labels(tmp_path / "data")["train"])

    def scan(*args: Any) -> np.ndarray:
        raise AssertionError("a second scan")

    monkeypatch.setattr(tfrecord_index, "_scan", scan)
    assert contents(labels(tmp_path / "data")["train"]) == first
