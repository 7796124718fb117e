"""Guards tables of keypoints: columns, visibility, sizes from headers, and every fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cvpipe.config.keypoint_sources import KeypointCsv
from cvpipe.data.sources import Source
from cvpipe.data.sources.keypoint_csv import keypoint_csv
from cvpipe.errors import DataError
from image_files import zipped

TABLE = """file,nose_x,nose_y,left_eye_x,left_eye_y,left_eye_v,right_eye_x,right_eye_y
a.png,10,5,20,10,1,30,2.5
b.png,,,4,8,2,,
c.png,,,,,0,,
"""
# Height and width of each image.
SIZES = {"a": (20, 40), "b": (16, 16), "c": (8, 8)}


def write(root: Path, **tables: str) -> Path:
    (root / "photos").mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(root / "photos" / f"{name}.png")
    for name, text in tables.items():
        (root / f"{name}.csv").write_text(text)
    return root


def opened(path: Path, **settings: Any) -> dict[str, Source]:
    return keypoint_csv(
        KeypointCsv(
            kind="keypoint_csv", path=str(path), train="train.csv", images="photos", **settings
        )
    )


def read(source: Source, index: int) -> dict[str, np.ndarray]:
    return {key: v.numpy() for key, v in source.read(tf.constant(index, tf.int64)).items()}


@pytest.mark.parametrize("place", [lambda root: root, zipped], ids=["folder", "zip"])
def test_keypoints_are_read_from_a_table(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    source = opened(place(write(tmp_path / "data", train=TABLE)))["train"]
    assert source.names() == ["photos/a.png", "photos/b.png", "photos/c.png"]
    first = read(source, 0)
    np.testing.assert_allclose(first["keypoints"], [[[0.25, 0.25], [0.5, 0.5], [0.125, 0.75]]])
    assert first["visibility"].tolist() == [[2, 1, 2]]
    np.testing.assert_allclose(first["boxes"], [[0.125, 0.25, 0.5, 0.75]])
    second = read(source, 1)
    assert second["visibility"].tolist() == [[0, 2, 0]]
    # A single point has no extent, so its box is one pixel.
    np.testing.assert_allclose(second["boxes"] * 16, [[7.5, 3.5, 8.5, 4.5]])
    assert read(source, 2)["visibility"].shape == (0, 3)


def test_visibilities_may_have_a_decimal_point(tmp_path: Path) -> None:
    decimal = TABLE.replace("10,1,", "10,1.0,").replace("8,2,", "8,2.0,").replace(",0,,", ",0.0,,")
    assert decimal.count(".0,") == 3
    ours = opened(write(tmp_path / "decimal", train=decimal))["train"]
    plain = opened(write(tmp_path / "plain", train=TABLE))["train"]
    for n in range(3):
        np.testing.assert_array_equal(read(ours, n)["visibility"], read(plain, n)["visibility"])


def test_absolute_paths_of_another_machine_are_found_by_their_end(tmp_path: Path) -> None:
    table = TABLE.replace("a.png", "/home/me/photos/a.png").replace("b.png", "D:\\x\\b.png")
    source = opened(write(tmp_path, train=table))["train"]
    assert source.names() == ["photos/a.png", "photos/b.png", "photos/c.png"]


def test_pairs_and_skeleton_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, train=TABLE)
    facts = opened(path, skeleton=(("nose", "left_eye"),), class_name="face")["train"].facts
    assert facts.keypoint_names == ("nose", "left_eye", "right_eye")
    assert (facts.flip_pairs, facts.skeleton) == (((1, 2),), ((0, 1),))
    assert facts.class_names == ("face",)
    given = opened(path, flip_pairs=(("nose", "right_eye"),))["train"].facts
    assert given.flip_pairs == ((0, 2),)


def test_an_image_that_cannot_be_read_stays_without_points(tmp_path: Path) -> None:
    write(tmp_path, train=TABLE)
    (tmp_path / "photos" / "a.png").unlink()
    (tmp_path / "photos" / "b.png").write_text("no image")
    source = opened(tmp_path)["train"]
    assert len(source) == 3 and not [n for n in range(2) if len(source.annotations[0].labels)]
    assert set(source.annotations[0].faults) == {"photos/a.png", "photos/b.png"}


def test_a_point_outside_the_image_counts_as_not_annotated_and_is_reported(tmp_path: Path) -> None:
    table = TABLE.replace("a.png,10,5", "a.png,41,5")
    source = opened(write(tmp_path, train=table))["train"]
    assert read(source, 0)["visibility"].tolist() == [[0, 1, 2]]
    assert source.annotations[0].faults == {
        "photos/a.png": {"with keypoints outside the image, which count as not annotated": 1}
    }


FAULTS = {
    "no y": (TABLE.replace("nose_y", "nose"), "a column nose_x and no nose_y"),
    "no points": ("file,label\na.png,cat\n", "no columns of keypoints, such as nose_x and nose_y"),
    "a word": (TABLE.replace("a.png,10", "a.png,ten"), ":2: nose is at x 'ten' and y '5'"),
    "half a point": (TABLE.replace("a.png,10,5", "a.png,10,"), ":2: nose is at x '10' and y ''"),
    "infinite": (TABLE.replace("a.png,10", "a.png,inf"), ":2: nose is at x 'inf'"),
    "visibility": (TABLE.replace("20,10,1", "20,10,3"), ":2: left_eye_v is '3', which must be 0"),
    "half visible": (TABLE.replace("20,10,1", "20,10,0.5"), ":2: left_eye_v is '0.5', which must"),
    "a word as visibility": (TABLE.replace("20,10,1", "20,10,yes"), ":2: left_eye_v is 'yes'"),
    "twice": (TABLE.replace("b.png", "a.png"), ":3: a.png is already in line 2"),
    "no path": (TABLE.replace("b.png", ""), ":3: the row has no value in the column 'file'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_line(tmp_path: Path, fault: str) -> None:
    table, message = FAULTS[fault]
    with pytest.raises(DataError) as raised:
        opened(write(tmp_path, train=table))
    assert message in str(raised.value) and f"{tmp_path}/train.csv" in str(raised.value)


def test_tables_of_other_points_are_refused(tmp_path: Path) -> None:
    write(tmp_path, train=TABLE, test="file,nose_x,nose_y\nc.png,1,2\n")
    with pytest.raises(DataError, match="has the keypoints nose, but .* nose, left_eye, right_eye"):
        opened(tmp_path, test="test.csv")


@pytest.mark.parametrize("key", ["flip_pairs", "skeleton"])
def test_unknown_names_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(DataError, match=f"data.source.{key}: no keypoint is called 'mouth'"):
        opened(write(tmp_path, train=TABLE), **{key: (("nose", "mouth"),)})
