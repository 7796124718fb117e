"""Guards COCO's outlines as masks: polygons, run lengths, overlaps, crowds and invalid outlines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.coco import CocoMasks, CocoSplit
from cvpipe.config.data import Data
from cvpipe.data.annotations.mask import Mask
from cvpipe.data.quarantine import why_unreadable
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.coco import coco
from cvpipe.data.sources.coco_masks import NO_POLYGON, NO_RUNS, outline_fault, paint
from cvpipe.errors import DataError
from cvpipe.geometry.masks import IGNORED
from image_files import encode, noise

HEIGHT, WIDTH = 10, 12
SQUARE = [[2, 1, 8, 1, 8, 7, 2, 7]]
# Column by column: five pixels of background, ten of the object, and so on.
RUNS = {"size": [HEIGHT, WIDTH], "counts": [5, 10, 20, 3, 82]}


def painted(
    *objects: Any, crowd: tuple[int, ...] = (), size: tuple[int, int] = (HEIGHT, WIDTH)
) -> np.ndarray:
    """The mask of objects with the labels 1, 2, …"""
    rows = [
        {"label": n, "iscrowd": n in crowd, "segmentation": given}
        for n, given in enumerate(objects, 1)
    ]
    return paint(json.dumps(rows).encode(), *size)[..., 0]


def unrolled(counts: list[int]) -> np.ndarray:
    ink = np.concatenate(
        [np.full(count, number % 2, np.uint8) for number, count in enumerate(counts)]
    )
    return ink.reshape(WIDTH, HEIGHT).T


def test_a_polygon_covers_its_area_and_its_place() -> None:
    mask = painted(SQUARE)
    assert mask.dtype == np.uint8 and mask.sum() == 36 and (mask[1:7, 2:8] == 1).all()


def test_many_corners_cover_the_polygons_area() -> None:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    x, y = 70 + 40 * np.cos(angle), 50 + 25 * np.sin(angle)
    area = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    mask = painted([np.stack([x, y], 1).ravel().tolist()], size=(100, 130))
    assert abs(mask.sum() - area) < 0.01 * area


def test_an_object_may_have_several_polygons() -> None:
    assert painted([SQUARE[0], [9, 8, 12, 8, 12, 10, 9, 10]]).sum() == 36 + 6


def test_runs_are_unrolled_column_by_column_as_numbers_and_as_text() -> None:
    from pycocotools.mask import encode as encode_runs

    expected = unrolled(RUNS["counts"])  # type: ignore[arg-type]
    np.testing.assert_array_equal(painted(RUNS), expected)
    text = encode_runs(np.asfortranarray(expected))["counts"].decode()
    np.testing.assert_array_equal(painted({"size": [HEIGHT, WIDTH], "counts": text}), expected)


def test_smaller_objects_stay_visible_in_any_order() -> None:
    whole, small = [[0, 0, 12, 0, 12, 10, 0, 10]], [[3, 3, 5, 3, 5, 5, 3, 5]]
    first, last = painted(whole, small), painted(small, whole)
    assert (first == 2).sum() == (last == 1).sum() == 4 and (first == 1).sum() == (
        last == 2
    ).sum() == 116


def test_crowds_are_ignored_except_where_an_object_is() -> None:
    mask = painted(SQUARE, {"size": [HEIGHT, WIDTH], "counts": [0, 60, 60]}, crowd=(2,))
    assert (
        (mask == 1).sum() == 36 and (mask == IGNORED).sum() == 60 - 24 and (mask[:, 8:] == 0).all()
    )


def test_no_object_leaves_background() -> None:
    assert not painted().any()


RECTANGLE = [1, 1, 5, 1, 5, 6, 1, 6]


@pytest.mark.parametrize("given", [RECTANGLE, [RECTANGLE, []], [[], RECTANGLE]])
def test_a_single_polygon_needs_no_list_and_empty_polygons_are_ignored(given: Any) -> None:
    assert outline_fault(given, HEIGHT, WIDTH) is None
    np.testing.assert_array_equal(painted(given), painted([RECTANGLE]))


@pytest.mark.parametrize("given", [SQUARE, RUNS, RECTANGLE])
def test_a_valid_outline_has_no_fault(given: Any) -> None:
    assert outline_fault(given, HEIGHT, WIDTH) is None


@pytest.mark.parametrize(
    "given, fault",
    [
        ([], "without an outline, left out"),
        ([[], []], "without an outline, left out"),
        (None, "without an outline, left out"),
        ("SQUARE", "without an outline, left out"),
        ([[1, 1, 5, 1]], NO_POLYGON),
        ([RECTANGLE, [1, 1, 5, 1]], NO_POLYGON),
        ([[1, 1, 5, 1, 5, 6, 7]], NO_POLYGON),
        ([["1", 1, 5, 1, 5, 6]], NO_POLYGON),
        ([1, 1, 5, 1, 5], NO_POLYGON),
        ([[1, 1, float("nan"), 1, 5, 6]], "with a polygon far outside the image, left out"),
        ([[1, 1, 1e9, 1, 5, 6]], "with a polygon far outside the image, left out"),
        ([[1, 1, 10**400, 1, 5, 6]], "with a polygon far outside the image, left out"),
        (
            {"size": [WIDTH, HEIGHT], "counts": [120]},
            "with an RLE of another size than the image's, left out",
        ),
        ({"size": [HEIGHT, WIDTH], "counts": [5, 10]}, NO_RUNS),
        ({"size": [HEIGHT, WIDTH], "counts": [5, 10**6]}, NO_RUNS),
        ({"size": [HEIGHT, WIDTH], "counts": [5, -10, 125]}, NO_RUNS),
        ({"size": [HEIGHT, WIDTH], "counts": "zzzz~~~oooo"}, NO_RUNS),
        ({"size": [HEIGHT, WIDTH]}, NO_RUNS),
    ],
)
def test_the_fault_of_an_invalid_outline_is_named(given: Any, fault: str) -> None:
    assert outline_fault(given, HEIGHT, WIDTH) == fault


def instances(**changes: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in (7, 3)
        ],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 18, "segmentation": SQUARE},
            {"id": 2, "image_id": 7, "category_id": 90, "segmentation": RUNS, "iscrowd": 1},
            {
                "id": 3,
                "image_id": 7,
                "category_id": 90,
                "segmentation": [[0, 0, 2, 0, 2, 10, 0, 10]],
            },
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 18, "name": "dog"}],
        **changes,
    }


def write(root: Path, content: dict[str, Any] | None = None) -> CocoMasks:
    (root / "train.json").write_text(json.dumps(content or instances()))
    for n in (7, 3):
        (root / f"{n}.png").write_bytes(encode(noise(HEIGHT, WIDTH), "PNG"))
    return CocoMasks(kind="coco", path=str(root), train=CocoSplit(annotations="train.json"))


def masks_of(source: Source) -> list[np.ndarray]:
    return [
        row["mask"][..., 0]
        for row in (
            tf.data.Dataset.range(len(source))
            .map(source.read, num_parallel_calls=2)
            .as_numpy_iterator()
        )
    ]


def test_images_come_with_background_first_and_categories_in_the_order_of_their_ids(
    tmp_path: Path,
) -> None:
    source = coco(write(tmp_path))["train"]
    assert (source.classes, source.names()) == (
        ("background", "dog", "toothbrush"),
        ["3.png", "7.png"],
    )
    dog, brush = masks_of(source)
    np.testing.assert_array_equal(dog, painted(SQUARE))
    expected = np.where(unrolled(RUNS["counts"]) == 1, IGNORED, 0)  # type: ignore[arg-type]
    expected[:, :2] = 2
    np.testing.assert_array_equal(brush, expected)


def test_pixels_of_classes_that_are_not_chosen_are_ignored(tmp_path: Path) -> None:
    source = open_splits(
        Data(source=write(tmp_path), only=("background", "toothbrush"), test=0.5, validation=0)
    )["train"]
    [mask] = masks_of(source)
    assert set(np.unique(mask)) == (
        {0, IGNORED} if source.names() == ["3.png"] else {0, 1, IGNORED}
    )


def test_an_invalid_outline_drops_only_its_object(tmp_path: Path) -> None:
    bad = [
        {"id": 5, "image_id": 3, "category_id": 18, "segmentation": outline}
        for outline in ([], [[1, 1, 5, 1]], [])
    ]
    rows = [*instances()["annotations"], *bad]
    source = coco(write(tmp_path, instances(annotations=rows)))["train"]
    assert source.annotation(Mask).faults == {
        "3.png": {"without an outline, left out": 2, NO_POLYGON: 1}
    }
    for mask, expected in zip(masks_of(source), masks_of(coco(write(tmp_path))["train"])):
        np.testing.assert_array_equal(mask, expected)
    assert why_unreadable(source, 0) == "the file could be read on a second try"


def test_objects_of_unknown_images_are_left_out_and_counted(tmp_path: Path) -> None:
    strays = [
        {"id": n, "image_id": 77, "category_id": 18, "segmentation": SQUARE} for n in range(2)
    ]
    source = coco(write(tmp_path, instances(annotations=strays)))["train"]
    assert source.annotation(Mask).faults == {"image 77": {"of a missing image, left out": 2}}


def test_an_invalid_flag_is_refused_with_its_place(tmp_path: Path) -> None:
    rows = instances()["annotations"]
    rows[1]["iscrowd"] = "1"
    with pytest.raises(DataError, match='train.json: annotation 2 of image 7: iscrowd is "1", '):
        coco(write(tmp_path, instances(annotations=rows)))


@pytest.mark.parametrize(
    "content, message",
    [
        (
            instances(
                annotations=[{"id": 1, "image_id": 3, "category_id": 18, "bbox": [0, 0, 1, 1]}]
            ),
            r"annotations\[0\] has no 'segmentation'",
        ),
        (
            instances(categories=[{"id": 18, "name": "dog"}, {"id": 90, "name": "background"}]),
            "a category is called 'background'",
        ),
        (
            instances(categories=[{"id": n, "name": str(n)} for n in range(255)]),
            "255 categories; masks allow 254. Leave some out",
        ),
        (
            instances(
                images=[{"id": 3, "file_name": "3.png", "height": 90_000, "width": 90_000}],
                annotations=[],
            ),
            "image 3 has 90000 x 90000 pixels, and at most 100,000,000 are allowed; correct its",
        ),
    ],
)
def test_annotations_that_cannot_become_masks_are_refused_when_the_source_is_opened(
    tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        coco(write(tmp_path, content))
