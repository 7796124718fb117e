"""Guards COCO's JSON: crowds, any ids, images without objects, and every fault."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.coco import Coco, CocoSplit
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.sources import Source
from cvpipe.data.sources.coco import coco
from cvpipe.errors import DataError
from image_files import encode, noise

INSTANCES: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "b.jpg", "height": 20, "width": 40},
        {"id": 3, "file_name": "a.jpg", "height": 10, "width": 10},
        {"id": 9, "file_name": "c.jpg", "height": 10, "width": 10},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 3,
            "category_id": 18,
            "bbox": [1, 2, 3, 4],
            "area": 7.5,
            "iscrowd": 0,
        },
        {
            "id": 2,
            "image_id": 7,
            "category_id": 90,
            "bbox": [0, 0, 40, 20],
            "area": 10,
            "iscrowd": 1,
        },
        {"id": 3, "image_id": 3, "category_id": 90, "bbox": [5.5, 5, 4.5, 5]},
    ],
    "categories": [{"id": 90, "name": "toothbrush"}, {"id": 18, "name": "dog"}],
}


def write(root: Path, instances: Any = INSTANCES, images: str = "abc") -> Path:
    (root / "photos").mkdir(parents=True)
    (root / "train.json").write_text(
        instances if isinstance(instances, str) else json.dumps(instances)
    )
    for name in images:
        (root / "photos" / f"{name}.jpg").write_text(name)
    return root


def opened(path: Path, **others: CocoSplit) -> dict[str, Source]:
    return coco(
        Coco(
            kind="coco",
            path=str(path),
            train=CocoSplit(annotations="train.json", images="photos"),
            **others,
        )
    )


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    instances = copy.deepcopy(INSTANCES)
    change(instances)
    return instances


def test_images_are_in_the_order_of_their_ids_with_boxes_crowds_and_areas(tmp_path: Path) -> None:
    source = opened(write(tmp_path))["train"]
    assert (source.classes, source.names()) == (
        ("dog", "toothbrush"),
        ["photos/a.jpg", "photos/b.jpg", "photos/c.jpg"],
    )
    two, crowd, none = [
        {key: value.numpy() for key, value in source.read(tf.constant(n, tf.int64)).items()}
        for n in range(3)
    ]
    assert (crowd["bytes"], crowd["boxes"].tolist(), crowd["crowd"].tolist()) == (
        b"b",
        [[0, 0, 1, 1]],
        [True],
    )
    np.testing.assert_allclose(two["boxes"], [[0.2, 0.1, 0.6, 0.4], [0.5, 0.55, 1, 1]], rtol=1e-6)
    assert (two["labels"].tolist(), two["crowd"].tolist(), two["area"].tolist()) == (
        [0, 1],
        [False, False],
        [7.5, -1],
    )
    assert none["boxes"].shape == (0, 4)
    assert not source.annotation(Boxes).faults


def test_objects_of_missing_and_of_unknown_images_are_left_out_and_counted(tmp_path: Path) -> None:
    unknown = changed(
        lambda rows: rows["annotations"].append(
            {"image_id": 77, "category_id": 18, "bbox": [0, 0, 1, 1]}
        )
    )
    source = opened(write(tmp_path, unknown, images="bc"))["train"]
    assert len(source) == 3
    assert source.annotation(Boxes).faults == {
        "photos/a.jpg": {"of a missing image, left out": 2},
        "image 77": {"of a missing image, left out": 1},
    }
    assert source.counts().tolist() == [0, 1]


def test_absolute_paths_of_another_machine_are_found_by_their_end(tmp_path: Path) -> None:
    def move(instances: dict[str, Any]) -> None:
        for image, folder in zip(
            instances["images"],
            ("/home/me/photos/", "D:\\x\\photos\\", "https://host/"),
            strict=True,
        ):
            image["file_name"] = folder + image["file_name"]

    source = opened(write(tmp_path, changed(move)))["train"]
    assert source.names() == ["photos/a.jpg", "photos/b.jpg", "photos/c.jpg"]


@pytest.mark.parametrize("flag, output", [("0", '"0"'), (2, "2"), ([], r"\[\]")])
def test_an_invalid_flag_is_refused_with_its_place(tmp_path: Path, flag: Any, output: str) -> None:
    wrong = changed(lambda rows: rows["annotations"][0].update(iscrowd=flag))
    with pytest.raises(
        DataError, match=f"train.json: annotation 1 of image 3: iscrowd is {output},"
    ):
        opened(write(tmp_path, wrong))


def test_other_splits_have_the_classes_of_the_training_split(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path)
    fewer = changed(
        lambda rows: rows.update(
            categories=rows["categories"][:1], annotations=rows["annotations"][1:]
        )
    )
    (path / "test.json").write_text(json.dumps(fewer))
    with caplog.at_level(logging.WARNING):
        splits = opened(path, test=CocoSplit(annotations="test.json", images="photos"))
    assert splits["test"].classes == ("dog", "toothbrush") and splits["test"].counts().tolist() == [
        0,
        2,
    ]
    assert "the training split has 3 images of the test split too" in caplog.text
    (path / "test.json").write_text(
        json.dumps(changed(lambda rows: rows["categories"][1].update(name="dgo")))
    )
    with pytest.raises(
        DataError, match="the category 18, 'dgo', is not in .*train.json; did you mean 'dog'"
    ):
        opened(path, test=CocoSplit(annotations="test.json", images="photos"))


MISTAKES: dict[str, tuple[Any, str]] = {
    "no JSON": ("[1,", "train.json:1: not valid JSON .*; correct the file, or fetch it again"),
    "a list": ([1], "not COCO.s JSON, which has lists named images, annotations and categories"),
    "results": (
        [{"image_id": 1, "category_id": 18, "bbox": [0, 0, 1, 1], "score": 1}],
        "not COCO's JSON",
    ),
    "no list": (changed(lambda rows: rows.pop("categories")), "not COCO's JSON"),
    "no images": (changed(lambda rows: rows.update(images=[])), "lists no image"),
    "no key": (
        changed(lambda rows: rows["annotations"][1].pop("bbox")),
        r"annotations\[1\] has no 'bbox'; correct or remove it",
    ),
    "no id": (
        changed(lambda rows: rows["images"][1].update(id=1.5)),
        r"id of images\[1\] is 1.5, but must be a whole number or text; correct or remove it",
    ),
    "an id twice": (
        changed(lambda rows: rows["images"][1].update(id=9)),
        "2 of the images have the id 9; make the ids unique",
    ),
    "a name twice": (
        changed(lambda rows: rows["categories"][1].update(name="toothbrush")),
        "two categories are named 'toothbrush'; name them differently",
    ),
    "no category": (
        changed(lambda rows: rows["annotations"][2].update(category_id=5)),
        "annotation 3 of image 3: no category has the id 5; known: 18 dog, 90 toothbrush",
    ),
    "three numbers": (
        changed(lambda rows: rows["annotations"][0].update(bbox=[1, 2, 3])),
        r"annotation 1 of image 3: bbox is \[1, 2, 3\]",
    ),
    "null": (
        changed(lambda rows: rows["annotations"][0].update(bbox=[1, 2, 3, None])),
        r"bbox is \[1, 2, 3, null\], not four numbers",
    ),
    "NaN": (
        changed(lambda rows: rows["annotations"][0].update(bbox=[1, 2, 3, float("nan")])),
        "annotation 1 of image 3: a coordinate isn't a finite number",
    ),
    "no height": (
        changed(lambda rows: rows["images"][1].update(height=0)),
        "height of image 3 is 0, but must be a number above 0; correct it, or leave out both",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_fault_is_reported_with_its_place(tmp_path: Path, mistake: str) -> None:
    instances, message = MISTAKES[mistake]
    with pytest.raises(DataError, match=message):
        opened(write(tmp_path, instances))


def test_a_split_without_any_existing_image_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match="photos: none of the images that .*train.json names is there; set"
        " data.source.train.images to",
    ):
        opened(write(tmp_path, images="xyz"))


def boxes_of(path: Path) -> list[list[float]]:
    source = opened(path)["train"]
    found = [source.read(tf.constant(n, tf.int64))["boxes"].numpy() for n in range(len(source))]
    return np.round(np.concatenate(found), 4).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "as_written",
    [float, str, lambda number: f"{number:012d}", lambda number: f" {number}"],
    ids=["floats", "text", "text with zeros", "text with blanks"],
)
def test_ids_may_be_in_any_notation(tmp_path: Path, as_written: Callable[[int], Any]) -> None:
    def rewrite(rows: dict[str, Any]) -> None:
        for row in [*rows["images"], *rows["categories"]]:
            row["id"] = as_written(row["id"])
        # Annotations keep numbers in one key, because tools mix numbers and text.
        for row in rows["annotations"]:
            row["category_id"] = as_written(row["category_id"])

    plain, other = write(tmp_path / "plain"), write(tmp_path / "other", changed(rewrite))
    assert boxes_of(plain) == boxes_of(other)
    assert opened(other)["train"].classes == ("dog", "toothbrush")
    assert opened(other)["train"].names() == opened(plain)["train"].names()


def test_ids_may_be_any_text(tmp_path: Path) -> None:
    def rewrite(rows: dict[str, Any]) -> None:
        for row in [*rows["images"], *rows["annotations"]]:
            key = "id" if "file_name" in row else "image_id"
            row[key] = f"photo-{row[key]}"

    assert boxes_of(write(tmp_path / "b", changed(rewrite))) == boxes_of(write(tmp_path / "a"))


def test_ids_that_differ_only_in_zeros_are_distinct(tmp_path: Path) -> None:
    ids: dict[int, Any] = {3: "1", 7: "001", 9: 1001, 18: "-1", 90: "-01"}

    def rewrite(rows: dict[str, Any]) -> None:
        for row in [*rows["images"], *rows["categories"]]:
            row["id"] = ids[row["id"]]
        for row in rows["annotations"]:
            row["image_id"] = ids[row["image_id"]]
            row["category_id"] = -1 if row["category_id"] == 18 else ids[row["category_id"]]

    other = write(tmp_path / "other", changed(rewrite))
    source, plain = opened(other)["train"], opened(write(tmp_path / "plain"))["train"]
    # Numbers come before text.
    assert source.names() == ["photos/a.jpg", "photos/c.jpg", "photos/b.jpg"]
    assert source.classes == plain.classes
    assert sorted(boxes_of(other)) == sorted(boxes_of(tmp_path / "plain"))


def test_text_and_number_are_the_same_id(tmp_path: Path) -> None:
    path = write(tmp_path, changed(lambda rows: rows["images"][1].update(id="7")))
    with pytest.raises(DataError, match="2 of the images have the id 7"):
        opened(path)


@pytest.mark.parametrize("bad", [True, None, [1], "", float("inf")])
def test_an_invalid_id_is_named(tmp_path: Path, bad: Any) -> None:
    path = write(tmp_path, changed(lambda rows: rows["images"][1].update(id=bad)))
    with pytest.raises(DataError, match=r"id of images\[1\] is .*, but must be a whole number or"):
        opened(path)


@pytest.mark.parametrize("absent", ["missing", "null", "text"])
def test_missing_sizes_are_read_from_the_images(tmp_path: Path, absent: str) -> None:
    def rewrite(rows: dict[str, Any]) -> None:
        for image in rows["images"]:
            for key in ("height", "width"):
                image[key] = None if absent == "null" else str(image[key])
                if absent == "missing":
                    del image[key]

    path, plain = write(tmp_path / "d", changed(rewrite)), write(tmp_path / "plain")
    for image in INSTANCES["images"]:
        content = encode(noise(image["height"], image["width"]), "JPEG")
        (path / "photos" / image["file_name"]).write_bytes(content)
    assert boxes_of(path) == boxes_of(plain)


def test_objects_of_an_image_of_unknown_size_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path, changed(lambda rows: rows["images"][1].update(height=None, width=None)))
    source = opened(path)["train"]
    assert source.annotation(Boxes).faults == {"photos/a.jpg": {"of a missing image, left out": 2}}


GROUP = {"id": 0, "name": "things", "supercategory": "none"}


@pytest.mark.parametrize("name", ["things", "dog"])
def test_a_root_category_that_only_groups_others_is_not_a_class(tmp_path: Path, name: str) -> None:
    def rewrite(rows: dict[str, Any]) -> None:
        for row in rows["categories"]:
            row["supercategory"] = name
        rows["categories"].append(GROUP | {"name": name})

    assert opened(write(tmp_path, changed(rewrite)))["train"].classes == ("dog", "toothbrush")


@pytest.mark.parametrize("change", ["used", "no group", "used in the test split"])
def test_a_category_that_is_used_or_groups_nothing_is_a_class(tmp_path: Path, change: str) -> None:
    def rewrite(rows: dict[str, Any]) -> None:
        rows["categories"].append(GROUP)
        for row in rows["categories"][:-1]:
            row["supercategory"] = "others" if change == "no group" else "things"

    used = changed(rewrite)
    used["annotations"][0]["category_id"] = 0
    path = write(tmp_path, used if change == "used" else changed(rewrite))
    (path / "test.json").write_text(json.dumps(used))
    test = CocoSplit(annotations="test.json", images="photos")
    others = {"test": test} if change == "used in the test split" else {}
    assert opened(path, **others)["train"].classes == ("things", "dog", "toothbrush")


def test_file_names_may_contain_backslashes_and_a_dot(tmp_path: Path) -> None:
    def rewrite(rows: dict[str, Any]) -> None:
        for row in rows["images"]:
            row["file_name"] = f".\\inner\\{row['file_name']}"

    path = write(tmp_path, changed(rewrite))
    (path / "photos").rename(path / "inner")
    (path / "photos").mkdir()
    (path / "inner").rename(path / "photos/inner")
    assert opened(path)["train"].names()[0] == "photos/inner/a.jpg"


def test_the_error_of_missing_images_suggests_a_similar_name(tmp_path: Path) -> None:
    def rewrite(rows: dict[str, Any]) -> None:
        for row in rows["images"]:
            row["file_name"] = row["file_name"].upper()

    path = write(tmp_path, changed(rewrite))
    with pytest.raises(DataError, match=r"is there; .*did you mean 'photos/a.jpg'"):
        opened(path)


@pytest.mark.parametrize("content", ["[" * 200_000, '{"images": [}', '{"images": "\ud800"'])
def test_broken_json_is_an_error_sentence(tmp_path: Path, content: str) -> None:
    path = write(tmp_path)
    (path / "train.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match="train.json.*: not valid JSON .*; correct the") as error:
        opened(path)
    assert "recursion" not in str(error.value) and "codec" not in str(error.value)
