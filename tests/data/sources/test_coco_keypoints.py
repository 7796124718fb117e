"""Guards COCO's keypoints: names, pairs and visibility, and a sentence for every fault."""

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

from cvpipe.config.coco import CocoSplit
from cvpipe.config.keypoint_sources import CocoKeypoints
from cvpipe.config.pose import PoseData
from cvpipe.data.sources import Source, open_splits
from cvpipe.data.sources.coco import coco
from cvpipe.errors import DataError

PEOPLE: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "b.jpg", "height": 20, "width": 40},
        {"id": 3, "file_name": "a.jpg", "height": 10, "width": 10},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 3,
            "category_id": 1,
            "bbox": [1, 2, 8, 7],
            "area": 30.5,
            "iscrowd": 0,
            "keypoints": [2, 3, 2, 4, 5, 1, 0, 0, 0],
            "num_keypoints": 2,
        },
        {
            "id": 2,
            "image_id": 7,
            "category_id": 1,
            "bbox": [0, 0, 40, 20],
            "area": 10,
            "iscrowd": 1,
            "keypoints": [0] * 9,
            "num_keypoints": 0,
        },
        {"id": 3, "image_id": 7, "category_id": 18, "bbox": [1, 1, 3, 3]},
    ],
    "categories": [
        {"id": 18, "name": "dog"},
        {
            "id": 1,
            "name": "person",
            "keypoints": ["nose", "left_eye", "right_eye"],
            "skeleton": [[1, 2], [1, 3]],
        },
    ],
}


def write(root: Path, content: dict[str, Any] = PEOPLE, name: str = "train") -> Path:
    (root / "photos").mkdir(parents=True, exist_ok=True)
    (root / f"{name}.json").write_text(json.dumps(content))
    for image in "ab":
        (root / "photos" / f"{image}.jpg").write_text(image)
    return root


def section(path: Path, **settings: Any) -> CocoKeypoints:
    return CocoKeypoints(
        kind="coco",
        path=str(path),
        train=CocoSplit(annotations="train.json", images="photos"),
        **settings,
    )


def read(source: Source, index: int) -> dict[str, np.ndarray]:
    return {key: v.numpy() for key, v in source.read(tf.constant(index, tf.int64)).items()}


def test_points_are_the_centers_of_the_pixels_in_the_file(tmp_path: Path) -> None:
    source = coco(section(write(tmp_path)))["train"]
    assert source.names() == ["photos/a.jpg", "photos/b.jpg"] and source.classes == ("person",)
    first = read(source, 0)
    # The center of pixel 2 of 10 is at 2.5.
    np.testing.assert_allclose(first["keypoints"], [[[0.35, 0.25], [0.55, 0.45], [0, 0]]])
    assert first["visibility"].tolist() == [[2, 1, 0]] and first["area"].tolist() == [30.5]
    np.testing.assert_allclose(first["boxes"], [[0.2, 0.1, 0.9, 0.9]])
    second = read(source, 1)
    assert second["crowd"].tolist() == [True] and second["visibility"].tolist() == [[0, 0, 0]]


def test_names_pairs_and_skeleton_are_read_from_the_category(tmp_path: Path) -> None:
    facts = coco(section(write(tmp_path)))["train"].facts
    assert facts.keypoint_names == ("nose", "left_eye", "right_eye")
    assert facts.flip_pairs == ((1, 2),) and facts.skeleton == ((0, 1), (0, 2))
    given = coco(section(tmp_path, flip_pairs=(("nose", "left_eye"),)))["train"]
    assert given.facts.flip_pairs == ((0, 1),)
    assert read(given, 0)["mirror_order"].tolist() == [1, 0, 2]


def test_a_point_outside_the_image_counts_as_not_annotated_and_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    people = copy.deepcopy(PEOPLE)
    people["annotations"][0]["keypoints"][3:6] = [12, 5, 2]
    write(tmp_path, people)
    with caplog.at_level(logging.WARNING):
        config = PoseData(source=section(tmp_path), test=0, validation=0, max_bad_share=0.5)
        source = coco(config.source)["train"]
    assert read(source, 0)["visibility"].tolist() == [[2, 0, 0]]
    (fault,) = source.annotations[0].faults.values()
    assert fault == {"with keypoints outside the image, which count as not annotated": 1}


def broken(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    people = copy.deepcopy(PEOPLE)
    change(people)
    return people


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "instances": (
        lambda people: people["categories"][1].pop("keypoints"),
        "no category has keypoints; name a file of keypoints, such as annotations/person_keypoints",
    ),
    "no keypoints": (
        lambda people: people["annotations"][0].pop("keypoints"),
        "annotations\\[0\\] has no 'keypoints'",
    ),
    "too few": (
        lambda people: people["annotations"][0]["keypoints"].pop(),
        "annotation 1 of image 3: keypoints are not 9 numbers",
    ),
    "a word": (
        lambda people: people["annotations"][0]["keypoints"].__setitem__(0, "x"),
        "annotation 1 of image 3: keypoints are not 9 numbers",
    ),
    "visibility": (
        lambda people: people["annotations"][0]["keypoints"].__setitem__(2, 3),
        "annotation 1 of image 3: a keypoint has the visibility 3, which must be 0",
    ),
    "skeleton": (
        lambda people: people["categories"][1]["skeleton"].append([1, 4]),
        "the skeleton of the category 'person' has the line \\[1, 4\\], not two numbers from 1",
    ),
    "names": (
        lambda people: people["categories"][1]["keypoints"].__setitem__(0, "left_eye"),
        "two keypoints of the category 'person' have the same name",
    ),
    "others": (
        lambda people: people["categories"][0].update(keypoints=["tail"]),
        "the categories 'dog' and 'person' have different keypoints",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_place(tmp_path: Path, fault: str) -> None:
    change, message = FAULTS[fault]
    with pytest.raises(DataError, match=message) as raised:
        coco(section(write(tmp_path, broken(change))))
    assert f"{tmp_path}/train.json" in str(raised.value)


def test_splits_of_other_keypoints_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, broken(lambda people: people["categories"][1]["skeleton"].pop()), name="test")
    with pytest.raises(DataError, match="test.json: keypoints or skeleton differ from those of"):
        coco(section(tmp_path, test=CocoSplit(annotations="test.json", images="photos")))


@pytest.mark.parametrize(
    "pairs, message",
    [
        ((("nose", "left_ear"),), "no keypoint is called 'left_ear'; did you mean 'left_eye'"),
        ((("nose", "left_eye"), ("nose", "right_eye")), "'nose' is given twice"),
    ],
)
def test_pairs_contain_known_keypoints_each_at_most_once(
    tmp_path: Path, pairs: tuple[tuple[str, str], ...], message: str
) -> None:
    with pytest.raises(DataError, match=f"data.source.flip_pairs: {message}"):
        coco(section(write(tmp_path), flip_pairs=pairs))


def test_a_pipeline_opens_splits_of_one_class(tmp_path: Path) -> None:
    points = [2, 3, 2, 4, 5, 1, 0, 0, 0]
    people = broken(lambda people: people["annotations"][1].update(iscrowd=0, keypoints=points))
    splits = open_splits(PoseData(source=section(write(tmp_path, people)), test=0.5, validation=0))
    assert sorted(map(len, splits.values())) == [1, 1]
