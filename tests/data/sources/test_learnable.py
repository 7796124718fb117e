"""Guards the refusal to train on data with nothing to learn or with most objects unusable."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvpipe.config.coco import Coco, CocoMasks, CocoSplit
from cvpipe.config.data import Data
from cvpipe.config.detection import DetectionData
from cvpipe.config.keypoint_sources import CocoKeypoints
from cvpipe.config.mask_sources import Masks
from cvpipe.config.pose import PoseData
from cvpipe.config.yolo import Yolo
from cvpipe.data.sources import open_splits
from cvpipe.errors import DataError
from image_files import encode, noise


def yolo_data(root: Path, rows: list[str], **settings: Any) -> DetectionData:
    """Write four images, each annotated with these rows."""
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for n in range(4):
        (root / "images" / f"{n}.png").write_bytes(encode(noise(4, 4, seed=n), "PNG"))
        (root / "labels" / f"{n}.txt").write_text("\n".join(rows))
    source = Yolo(kind="yolo", path=str(root), classes=("cat", "dog"))
    return DetectionData(source=source, validation=0, test=0.25, **settings)


PEOPLE: dict[str, Any] = {
    "images": [{"id": n, "file_name": f"{n}.png", "height": 4, "width": 4} for n in range(4)],
    "annotations": [
        {
            "id": n,
            "image_id": n,
            "category_id": 1,
            "bbox": [0, 0, 2, 2],
            "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]],
            "keypoints": [1, 1, 2],
        }
        for n in range(4)
    ],
    "categories": [{"id": 1, "name": "person", "keypoints": ["nose"]}],
}


def coco_source(root: Path, kind: type[Coco], **of_each: Any) -> Coco:
    people = copy.deepcopy(PEOPLE)
    for row in people["annotations"]:
        row.update(of_each)
    (root / "a.json").write_text(json.dumps(people))
    for n in range(4):
        (root / f"{n}.png").write_bytes(encode(noise(4, 4, seed=n), "PNG"))
    return kind(kind="coco", path=str(root), train=CocoSplit(annotations="a.json"))


@pytest.mark.parametrize(
    "rows, message",
    [
        (["0 30 20 8 9", "1 5 6 3 3"], "8 in pixels instead of fractions of the image, left out"),
        (["0 1.6 0.5 0.2 0.2"], "4 outside the image, left out"),
        (["0 0.5 0.5 0 0"], "4 without area, left out"),
    ],
)
def test_the_loss_of_all_objects_is_an_error_with_the_reason(
    tmp_path: Path, rows: list[str], message: str
) -> None:
    with pytest.raises(DataError) as raised:
        open_splits(yolo_data(tmp_path, rows))
    assert str(raised.value).startswith(
        f"{tmp_path}: nothing to learn in 4 training images: no object is left (crowds and objects"
        f" marked difficult are not learned); of the annotated objects {message}: labels/0.txt"
    )
    assert str(raised.value).endswith(
        "Correct the annotations, or data.source if it names the wrong files"
    )


def test_data_without_objects_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to learn in 4 training images: no object is left"):
        open_splits(yolo_data(tmp_path, []))


def test_the_loss_of_most_objects_is_an_error_with_the_reason(tmp_path: Path) -> None:
    rows = ["0 0.5 0.5 0.2 0.2", "0 40 20 9 9", "1 30 8 4 4"]
    with pytest.raises(
        DataError, match="8 of 12 objects can't be used; of the annotated objects 8 in pixels"
    ) as e:
        open_splits(yolo_data(tmp_path, rows))
    assert "8 in pixels instead of fractions of the image, left out" in str(e.value)


def test_the_loss_of_a_few_objects_is_not_an_error(tmp_path: Path) -> None:
    rows = ["0 0.5 0.5 0.2 0.2", "1 0.2 0.2 0.1 0.1", "0 40 20 9 9"]
    assert open_splits(yolo_data(tmp_path, rows))["train"].counts().tolist() == [3, 3]


def test_repeated_objects_are_not_lost(tmp_path: Path) -> None:
    rows = ["0 0.5 0.5 0.2 0.2"] * 5
    assert open_splits(yolo_data(tmp_path, rows))["train"].counts().tolist() == [3, 0]


def test_chosen_classes_without_an_object_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to learn in 3 training images: no object is left"):
        open_splits(yolo_data(tmp_path, ["0 0.5 0.5 0.2 0.2"], only=("dog",)))


def test_data_with_only_crowds_is_an_error(tmp_path: Path) -> None:
    source = coco_source(tmp_path, Coco, iscrowd=1)
    with pytest.raises(DataError, match="no object is left .crowds and objects marked difficult"):
        open_splits(DetectionData(source=source))


@pytest.mark.parametrize("outline", [[], [[0, 0, 2, 0]], "square", {"size": [2, 2], "counts": [4]}])
def test_data_without_a_valid_outline_is_an_error(tmp_path: Path, outline: Any) -> None:
    source = coco_source(tmp_path, CocoMasks, segmentation=outline)
    with pytest.raises(
        DataError, match="masks show only background; of the annotated objects 4 with"
    ):
        open_splits(Data(source=source))


@pytest.mark.parametrize("points", [[0, 0, 0], [9, 1, 2]])
def test_data_without_a_keypoint_inside_an_image_is_an_error(
    tmp_path: Path, points: list[int]
) -> None:
    source = coco_source(tmp_path, CocoKeypoints, keypoints=points)
    with pytest.raises(DataError, match="no object has an annotated keypoint inside its image"):
        open_splits(PoseData(source=source))


def test_people_with_all_annotations_are_learned(tmp_path: Path) -> None:
    for name, kind in (("boxes", Coco), ("masks", CocoMasks), ("points", CocoKeypoints)):
        (tmp_path / name).mkdir()
        data = PoseData if kind is CocoKeypoints else DetectionData if kind is Coco else Data
        splits = open_splits(data(source=coco_source(tmp_path / name, kind), test=0.25))
        assert len(splits["train"]) >= 2


@pytest.mark.parametrize("ignored, value", [(255, 255), (7, 7)])
def test_masks_that_are_all_ignored_are_an_error(tmp_path: Path, ignored: int, value: int) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for n in range(3):
        (tmp_path / "images" / f"{n}.png").write_bytes(encode(noise(4, 4, seed=n), "PNG"))
        mask = np.full((4, 4, 1), value, np.uint8)
        (tmp_path / "masks" / f"{n}.png").write_bytes(encode(mask, "PNG"))
    section = Masks.model_validate(
        {
            "kind": "masks",
            "path": str(tmp_path),
            "train": [{"images": "images", "masks": "masks"}],
            "classes": [{"name": "sky"}, {"name": "road"}],
            "ignore_indices": [ignored],
        }
    )
    with pytest.raises(
        DataError,
        match=f"all pixels of 3 masks, such as .*masks/0.png, are ignored, by"
        f" data.source.ignore_indices: {ignored}; remove",
    ):
        open_splits(Data(source=section))
