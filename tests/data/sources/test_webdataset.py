"""Guards WebDataset's tar archives: samples read by position, and faulty archives."""

from __future__ import annotations

import gzip
import json
import logging
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cvpipe.config.group import Group
from cvpipe.config.record_files import WebDataset, WebDatasetBoxes, WebDatasetMasks
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.annotations.label import Label
from cvpipe.data.check import check
from cvpipe.data.formats import find_formats
from cvpipe.data.sources import open_source, tar_index
from cvpipe.data.sources.groups import group_names
from cvpipe.data.sources.record_files import expand_braces
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.webdataset import webdataset
from cvpipe.errors import DataError
from cvpipe.init import data_of
from image_files import encode, noise, zipped
from record_writers import write_tar

SIZE = (40, 50)
FILES = [encode(noise(*SIZE, seed=n), "JPEG") for n in range(6)]


def labeled(*labels: str, first: int = 0) -> list[tuple[str, bytes]]:
    """Return an image and a class file for each label."""
    return [
        member
        for n, label in enumerate(labels, first)
        for member in ((f"{n:04}.jpg", FILES[n]), (f"{n:04}.cls", label.encode()))
    ]


def with_json(*contents: Any) -> list[tuple[str, bytes]]:
    return [
        member
        for n, content in enumerate(contents)
        for member in ((f"p/{n}.jpg", FILES[n]), (f"p/{n}.json", json.dumps(content).encode()))
    ]


def labels(path: Path, **more: Any) -> dict[str, Source]:
    return webdataset(WebDataset(kind="webdataset", path=str(path), **more))


def objects(path: Path, **more: Any) -> dict[str, Source]:
    return webdataset(WebDatasetBoxes(kind="webdataset", path=str(path), **more))


def masks(path: Path, **more: Any) -> dict[str, Source]:
    values = {"kind": "webdataset", "path": str(path), "classes": ("land", "water"), **more}
    return webdataset(WebDatasetMasks(**values))


def contents(source: Source) -> list[bytes]:
    return [source.read(tf.constant(n, tf.int64))["bytes"].numpy() for n in range(len(source))]


# -- Labels


def test_samples_of_all_shards_are_read_in_any_order(tmp_path: Path) -> None:
    write_tar(tmp_path / "set-train-000000.tar", labeled("2", "1", "2"))
    write_tar(tmp_path / "set-train-000001.tar", labeled("1", "2", first=3))
    write_tar(tmp_path / "set-val-000000.tar", labeled("2", first=5))
    splits = labels(tmp_path)
    assert {split: contents(each) for split, each in splits.items()} == {
        "train": FILES[:5],
        "validation": FILES[5:],
    }
    train = splits["train"]
    assert train.classes == ("1", "2")
    assert train.annotation(Label).labels.tolist() == [1, 0, 1, 0, 1]
    assert train.names()[3] == "set-train-000001.tar/0003.jpg"
    order = [4, 0, 3, 1, 2, 4]
    read = [train.read(tf.constant(n, tf.int64))["bytes"].numpy() for n in order]
    assert read == [FILES[n] for n in order]


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_each_kind_of_tar_is_read_like_by_tarfile(tar_format: int, tmp_path: Path) -> None:
    # Names too long for a tar header.
    long = "folder with a long name/" * 4
    members = [
        (f"./{long}é{n}.{kind}", content)
        for n in range(3)
        for kind, content in (("jpg", FILES[n]), ("cls", b"a\n"), ("note.txt", b"?"))
    ]
    file = write_tar(tmp_path / "x.tar", members, format=tar_format)
    source = labels(tmp_path)["all"]
    with tarfile.open(file) as archive:
        stored = {
            each.name: archive.extractfile(each) for each in archive if each.name.endswith("jpg")
        }
        expected = {name.removeprefix("./"): each.read() for name, each in stored.items() if each}
    assert dict(zip(source.names(), contents(source), strict=True)) == {
        f"x.tar/{name}": content for name, content in expected.items()
    }
    assert source.classes == ("a",)


def test_the_webdataset_package_yields_the_same_samples(tmp_path: Path) -> None:
    package = pytest.importorskip("webdataset")
    members = [*labeled("1", "0"), *with_json({"a": 1})]
    # A key that comes back after another key begins a new sample.
    members += [("0000.jpg", FILES[4]), ("0000.cls", b"0")]
    file = write_tar(tmp_path / "x.tar", members)
    theirs = [
        (sample["__key__"], sample["jpg"], int(sample["cls"]))
        for sample in package.WebDataset(str(file), shardshuffle=False)
        if "cls" in sample
    ]
    source = labels(tmp_path)["all"]
    keys = [name.removeprefix("x.tar/").removesuffix(".jpg") for name in source.names()]
    class_indices = source.annotation(Label).labels[source.records].tolist()
    assert list(zip(keys, contents(source), class_indices, strict=True)) == theirs


def test_classes_are_names_numbers_or_a_field_of_json(tmp_path: Path) -> None:
    write_tar(tmp_path / "a/x.tar", labeled("yak", "ant", "yak"))
    source = labels(tmp_path / "a")["all"]
    assert source.classes == ("ant", "yak")
    assert source.annotation(Label).labels.tolist() == [1, 0, 1]
    write_tar(tmp_path / "b/x.tar", with_json({"label": 1, "who": "p7"}, {"label": 0, "who": 0}))
    found = find_formats(str(tmp_path / "b"))[0]
    assert found.source["annotations"] == "json" and found.task == "classification"
    data = data_of(found)
    source = open_source(data.source, data)["all"]
    assert source.annotation(Label).labels.tolist() == [1, 0]
    assert group_names(source, Group(column="who")) == ["p7", "0"]
    named = labels(tmp_path / "b", annotations="json", classes=("ant", "yak"))["all"]
    assert named.classes == ("ant", "yak")


def test_patterns_with_braces_choose_shards(tmp_path: Path) -> None:
    for number in range(4):
        write_tar(tmp_path / f"s-{number:03}.tar", labeled("a", "b"))
    splits = labels(tmp_path, train="s-{000..002}.tar", test="s-00{3,3}.tar")
    assert {split: len(each) for split, each in splits.items()} == {"train": 6, "test": 2}
    with pytest.raises(DataError, match=r"data.source.train: no file s-004.tar in .*did you mean"):
        labels(tmp_path, train="s-{000..004}.tar")


@pytest.mark.parametrize(
    "pattern, expanded",
    [
        ("a.tar", ["a.tar"]),
        ("{0..2}.tar", ["0.tar", "1.tar", "2.tar"]),
        ("x{08..10}", ["x08", "x09", "x10"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}-{0..1}", ["a-0", "a-1", "b-0", "b-1"]),
        ("{a}.tar", ["{a}.tar"]),
    ],
)
def test_braces_are_expanded_as_in_a_shell(pattern: str, expanded: list[str]) -> None:
    assert expand_braces(pattern) == expanded


@pytest.mark.soak
def test_patterns_that_expand_to_too_many_files_are_refused() -> None:
    for pattern in ("{0..99999999}", "{0..9999}{0..9999}"):
        with pytest.raises(DataError, match="means more than 1,000,000 files"):
            expand_braces(pattern)


def test_an_archive_in_an_archive_is_read_like_a_plain_one(tmp_path: Path) -> None:
    write_tar(tmp_path / "d/train.tar", labeled("0", "1"))
    plain, packed = (labels(each)["train"] for each in (tmp_path / "d", zipped(tmp_path / "d")))
    assert contents(packed) == contents(plain) == FILES[:2] and packed.digest() == plain.digest()


# -- Boxes

BOXES = [[5, 4, 20, 10], [30, 20, 20, 20], [0, 0, 50, 40]]
EXPECTED = np.array([[4, 5, 14, 25], [20, 30, 40, 50], [0, 0, 40, 50]]) / [*SIZE, *SIZE]


def as_objects(boxes: Sequence[Any], numbers: Sequence[Any]) -> Any:
    return {"objects": [{"bbox": b, "category": c} for b, c in zip(boxes, numbers, strict=True)]}


def as_lists(boxes: Sequence[Any], numbers: Sequence[int]) -> Any:
    ends = [[x, y, x + width, y + height] for x, y, width, height in boxes]
    return {"boxes": ends, "labels": list(numbers), "size": [50, 40, 3]}


def as_coco(boxes: Sequence[Any], numbers: Sequence[int]) -> Any:
    rows = zip(boxes, numbers, strict=True)
    return {"annotations": [{"bbox": b, "category_id": c, "iscrowd": 0} for b, c in rows]}


@pytest.mark.parametrize("form", [as_objects, as_lists, as_coco])
def test_boxes_of_each_form_are_found_and_read(form: Any, tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", with_json(form(BOXES[:2], [3, 7]), form(BOXES[2:], [7])))
    found = find_formats(str(tmp_path))[0]
    assert found.task == "detection"
    data = data_of(found)
    source = open_source(data.source, data)["train"]
    boxes = source.annotation(Boxes)
    np.testing.assert_allclose(boxes.boxes, EXPECTED, atol=1e-6)
    assert source.classes == ("3", "7")
    assert boxes.labels.tolist() == [0, 1, 1] and boxes.starts.tolist() == [0, 2, 3]


def test_invalid_boxes_and_objects_of_broken_images_are_counted(tmp_path: Path) -> None:
    bad = [[5, 4, -3, 10], [60, 4, 5, 5], [40, 30, 4e300, 5], [1, 1, 0, 4]]
    members = with_json(as_objects(bad, [0] * 4), as_objects([[1, 1, 5, 5]], [1]))
    members[2] = ("p/1.jpg", b"no image")
    write_tar(tmp_path / "train.tar", [*members, ("p/2.jpg", FILES[2])])
    source = objects(tmp_path)["train"]
    boxes = source.annotation(Boxes)
    assert len(source) == 2 and boxes.faults == {
        "train.tar/p/0.jpg": {
            "with corners in the wrong order, left out": 1,
            "outside the image, left out": 1,
            "without area, left out": 1,
            "clipped to the image": 1,
        },
        "train.tar/p/1.jpg": {"of a missing image, left out": 1},
    }


def test_boxes_refer_to_the_upright_photo(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(noise(40, 50), "JPEG", exif=exif.tobytes())
    members = [
        ("0.jpg", turned),
        ("0.json", json.dumps(as_objects([[0, 0, 20, 25]], [0])).encode()),
    ]
    write_tar(tmp_path / "train.tar", members)
    upright = objects(tmp_path)["train"].annotation(Boxes)
    np.testing.assert_allclose(upright.boxes, [[0, 0, 0.5, 0.5]], atol=1e-6)


# -- Masks

VALUES = [(noise(*SIZE, 1, seed=n)[..., 0] % 2).astype(np.uint8) for n in range(3)]


def masked(mask: str = "seg.png", image: str = "jpg") -> list[tuple[str, bytes]]:
    """An image and its mask for each array of VALUES."""
    return [
        member
        for n, values in enumerate(VALUES)
        for member in ((f"{n}.{image}", FILES[n]), (f"{n}.{mask}", encode(values, "PNG")))
    ]


@pytest.mark.parametrize("extension", ["seg.png", "mask.png", "png"])
def test_masks_beside_images_are_found_and_read_exactly(extension: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "train.tar", masked(extension))
    found = find_formats(str(tmp_path))[0]
    assert found.task == "segmentation" and found.source["classes"] == ["class_0", "class_1"]
    data = data_of(found)
    source = open_source(data.source, data)["train"]
    # The archive has another order.
    for n in (2, 0, 1):
        read = source.read(tf.constant(n, tf.int64))
        assert read["bytes"].numpy() == FILES[n]
        np.testing.assert_array_equal(read["mask"].numpy()[..., 0], VALUES[n])
    assert check({"train": source}, 3)["clean"]


def test_masks_may_have_palettes_and_values_from_1_and_255_is_ignored(tmp_path: Path) -> None:
    values = np.where(VALUES[0] == 1, 255, 1 + VALUES[1]).astype(np.uint8)
    picture = Image.fromarray(values, "P")
    picture.putpalette([value for n in range(256) for value in (n, 255 - n, 7)])
    file = tmp_path / "mask.png"
    picture.save(file)
    write_tar(tmp_path / "d/x.tar", [("0.jpg", FILES[0]), ("0.seg.png", file.read_bytes())])
    source = masks(tmp_path / "d", first_value=1)["all"]
    mask = source.read(tf.constant(0, tf.int64))["mask"].numpy()[..., 0]
    np.testing.assert_array_equal(mask, np.where(values == 255, 255, values - 1))


def test_masks_of_too_many_values_are_named(tmp_path: Path) -> None:
    numbered = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50, 1)
    members = [("0.jpg", FILES[0]), ("0.seg.png", encode(numbered, "PNG"))]
    write_tar(tmp_path / "x.tar", members)
    with pytest.raises(DataError, match="0.seg.png: the masks have values up to 1999, too many"):
        find_formats(str(tmp_path))


def test_a_second_photo_in_a_sample_is_not_taken_for_a_mask(tmp_path: Path) -> None:
    for pixels in (noise(*SIZE, seed=1), noise(*SIZE, 1, seed=1)):
        members = [("0.jpg", FILES[0]), ("0.png", encode(pixels, "PNG")), ("0.cls", b"1")]
        write_tar(tmp_path / "x.tar", members)
        assert [found.task for found in find_formats(str(tmp_path))] == ["classification"]


def test_bad_masks_make_bad_records_and_missing_masks_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = encode(VALUES[0][:20], "PNG")
    members = [
        *masked(),
        ("3.jpg", FILES[3]),
        ("4.jpg", FILES[4]),
        ("4.seg.png", b"no mask"),
        ("5.jpg", FILES[5]),
        ("5.seg.png", small),
        ("6.seg.png", small),
    ]
    write_tar(tmp_path / "train.tar", members)
    with caplog.at_level(logging.WARNING):
        source = masks(tmp_path)["train"]
    assert "left out 1 sample of the train split that have no .seg.png file" in caplog.text
    broken = check({"train": source}, 3)["broken"]
    found = {row["record"].rpartition("train.tar/")[2]: row["reason"] for row in broken}
    assert set(found) == {"4.jpg", "5.jpg", "6"}
    assert "the mask is damaged" in found["4.jpg"]
    assert "the mask is 50 x 20 pixels, and its image 50 x 40" in found["5.jpg"]
    assert "the sample has no image" in found["6"]


# -- Faults


def test_samples_without_class_or_image_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = [
        *labeled("0", "-1"),
        ("2.jpg", FILES[2]),
        ("3.jpg", FILES[3]),
        ("3.cls", b" \n"),
        ("4.cls", b"1"),
    ]
    write_tar(tmp_path / "train.tar", members)
    with caplog.at_level(logging.WARNING):
        source = labels(tmp_path)["train"]
    assert "left out 3 samples of the train split that have no class" in caplog.text
    assert source.annotation(Label).labels[source.records].tolist() == [0, 1]
    found = check({"train": source}, 3)
    assert [row["reason"] for row in found["broken"]] == [
        "the sample has no image (jpg, jpeg, png, webp, bmp), but .cls"
    ]


def test_paths_outside_the_archive_and_links_and_hidden_files_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "train.tar"
    members = [
        *labeled("0", "1"),
        ("../../etc/evil.jpg", FILES[2]),
        ("/tmp/evil.jpg", FILES[2]),
        ("a/../../b.jpg", FILES[2]),
        (".hidden.jpg", FILES[2]),
        ("README", b"?"),
    ]
    write_tar(file, members)
    with tarfile.open(file, "a") as archive:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with caplog.at_level(logging.WARNING):
        source = labels(tmp_path)["train"]
    assert contents(source) == FILES[:2]
    assert "left out 6 entries that no sample has, such as ../../etc/evil.jpg in" in caplog.text
    assert sorted(each.name for each in tmp_path.iterdir()) == ["train.tar"]


@pytest.mark.parametrize("left", [600, 1024, 5000, -1])
def test_an_archive_that_is_cut_off_is_refused_before_any_sample_is_read(
    left: int, tmp_path: Path
) -> None:
    file = write_tar(tmp_path / "train.tar", labeled("0", "1", "0"))
    whole = file.read_bytes()
    # Blocks of zeros fill the archive up to 10,240 bytes; an archive without them is incomplete.
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512 if left == -1 else left
    file.write_bytes(whole[:end])
    with pytest.raises(DataError, match=r"train\.tar: (not a valid tar|cut off or damaged)"):
        labels(tmp_path)


def test_a_damaged_header_is_found(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "train.tar", labeled("0", "1", "0"))
    data = bytearray(file.read_bytes())
    data[data.index(b"0001.jpg") + 1] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"train\.tar: cut off or damaged after 0000.cls"):
        labels(tmp_path)


def test_empty_archives_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_tar(tmp_path / "train-0.tar", labeled("0", "1"))
    write_tar(tmp_path / "train-1.tar", [])
    (tmp_path / "train-2.tar").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert len(labels(tmp_path)["train"]) == 2
    assert "left out 1 tar archive without a sample, such as" in caplog.text
    assert "left out 1 empty file, such as train-2.tar" in caplog.text


def test_each_fault_is_an_error_sentence(tmp_path: Path) -> None:
    file = tmp_path / "train.tar"

    def fails(match: str, **more: Any) -> None:
        with pytest.raises(DataError, match=match):
            (objects if "objects" in more else labels)(tmp_path, **more.get("keys", {}))

    fails("holds no tar archive")
    file.write_bytes(gzip.compress(b"1"))
    fails("compressed by gzip")
    file.write_bytes(b"?" * 2000)
    fails("not a valid tar archive")
    write_tar(file, [("0.jpg", FILES[0]), ("0.jpg", FILES[1])])
    fails("the sample 0 has two files that end with .jpg")
    write_tar(file, [("0.jpg", FILES[0]), ("0.txt", b"a cat")])
    fails("no training sample has a class in .cls; samples have .jpg, .txt; set")
    write_tar(file, labeled("0", "cow"))
    fails("train.tar/0001.cls: no class is called 'cow'; known: a, b", keys={"classes": ("a", "b")})
    write_tar(file, [("0.jpg", FILES[0]), ("0.cls", b"\xff\xfe\x00")])
    fails("0.cls:1: this is not text in")
    with pytest.raises(DataError, match="has a mask in .seg.png; samples have .cls, .jpg; set dat"):
        masks(tmp_path)
    write_tar(file, [("0.jpg", FILES[0]), ("0.seg.png", encode(VALUES[0] * 7, "PNG"))])
    with pytest.raises(DataError, match="0.seg.png, has a value that no class has: 7, .*Name more"):
        masks(tmp_path)
    write_tar(file, [("0.jpg", FILES[0]), ("0.json", b"{")])
    fails("train.tar/0.json: not valid JSON", objects=True)
    write_tar(file, with_json([1, 2]))
    fails("holds no structure with the field 'objects'", objects=True)
    write_tar(file, with_json({"objects": "cat"}))
    fails("'objects' is neither a list of objects nor a structure", objects=True)
    write_tar(file, with_json({"objects": [{"bbox": [1, 2, 3], "category": 1}]}))
    fails(r"object 0: 'bbox' is \[1, 2, 3\], not four numbers", objects=True)
    write_tar(file, with_json({"objects": [{"bbox": [1, 2, 3, 4], "category": [1]}]}))
    fails("'\\[1\\]' in 'category' is neither a number nor a name", objects=True)
    for empty in (None, ""):
        write_tar(file, with_json(as_objects([[1, 2, 3, 4]] * 2, [1, empty])))
        fails("p/0.jpg object 1: 'category' is empty; correct or remove the object", objects=True)
    write_tar(file, with_json({"objects": []}))
    fails("no training sample has an object in .json", objects=True)
    with pytest.raises(DataError, match=r"samples of \.jpg, \.txt, but no class, objects or"):
        find_formats(
            str(write_tar(tmp_path / "d/x.tar", [("0.jpg", FILES[0]), ("0.txt", b"")]).parent)
        )


def test_the_index_of_an_archive_is_built_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tar_index, "LEAST_REMEMBERED", 3)
    file = write_tar(tmp_path / "d/train.tar", [*labeled("0", "1"), ("../x.jpg", b"")])
    first = labels(tmp_path / "d")["train"]

    def scan(shard: Any) -> Any:
        raise AssertionError("a second scan")

    with monkeypatch.context() as patch:
        patch.setattr(tar_index, "_scan", scan)
        again = labels(tmp_path / "d")["train"]
    assert contents(again) == contents(first) == FILES[:2] and again.names() == first.names()
    write_tar(file, labeled("0", "1", "0", "1", "0"))
    assert len(labels(tmp_path / "d")["train"]) == 5
