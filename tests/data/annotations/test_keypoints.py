"""Guards keypoints: they stay on the same content of the image, whatever moves the image."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pydantic import TypeAdapter

from cvpipe.config.augment.augmentation import Augmentation
from cvpipe.config.pose import PoseAugmentation
from cvpipe.data.annotations import upright
from cvpipe.data.annotations.keypoints import Keypoints, mirror_order
from cvpipe.data.augment import augment
from cvpipe.data.check import check
from cvpipe.data.check_report import summary
from cvpipe.data.decode import decode_image
from cvpipe.data.example import Example
from cvpipe.data.facts import Facts
from cvpipe.data.sources.keypoints import keypoint_source
from cvpipe.data.sources.merge import merge
from cvpipe.data.sources.objects import collect
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError

SHAPE, SIZE, SEEDS = (90, 120), (96, 128), 12
NAMES = ("head", "left_hand", "right_hand", "foot")
# y and x of each point, in pixels of SHAPE, and the color of its marker.
PLACES = np.array([(20.5, 60.5), (45.5, 90.5), (45.5, 30.5), (75.5, 60.5)], np.float32)
COLORS = np.array([(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)])
RADIUS = 5
MOVES: list[dict[str, Any]] = [
    {"op": "flip", "probability": 1},
    {"op": "flip", "direction": "vertical", "probability": 1},
    {"op": "pad_crop", "padding": 30},
    {"op": "pad_crop", "padding": 9, "mode": "reflect"},
    {"op": "random_resized_crop", "area": [0.2, 1]},
    {"op": "short_side_crop", "sides": [128, 170]},
    {"op": "rotate", "degrees": 60},
    {"op": "translate", "share": 0.4},
    {"op": "shear", "degrees": 40},
    {"op": "expand", "probability": 1, "ratio": 2},
    {"op": "scale_jitter"},
    {"op": "scale_crop", "scale": [0.7, 2]},
    {"op": "lens", "strength": 0.5},
    {"op": "elastic", "share": 0.05},
    {"op": "elastic", "share": 0.05, "fill": "reflect"},
]
STAYS: list[dict[str, Any]] = [
    {"op": "color_jitter", "brightness": 0.2},
    {"op": "erase", "probability": 1},
]


def marked() -> Example:
    """A disk of a different color around each point of one object; the last point is hidden."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    image = np.zeros((*SHAPE, 3), np.uint8)
    for (row, column), color in zip(PLACES, COLORS, strict=True):
        image[np.hypot(y - row, x - column) <= RADIUS] = color
    return {
        "image": tf.constant(image),
        "boxes": tf.constant([[0.1, 0.1, 0.9, 0.9]]),
        "labels": tf.constant([0]),
        "crowd": tf.constant([False]),
        "area": tf.constant([-1.0]),
        "keypoints": tf.constant(PLACES[np.newaxis] / SHAPE, tf.float32),
        "visibility": tf.constant([[2, 2, 2, 1]]),
        "mirror_order": tf.constant(mirror_order(4, [(1, 2)])),
    }


def changed_by(given: dict[str, Any], count: int = SEEDS) -> list[dict[str, np.ndarray]]:
    """Return the marked example as an operation leaves it under several seeds, in a graph."""
    op: Augmentation = TypeAdapter(PoseAugmentation).validate_python(given)

    @tf.autograph.experimental.do_not_convert
    def one(number: tf.Tensor) -> Example:
        seed = tf.stack([number, tf.constant(3, tf.int64)])
        return augment(marked(), seed, [op], SIZE)

    return list(tf.data.Dataset.range(count).map(one).as_numpy_iterator())


def centroid(image: np.ndarray, color: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the center of the pixels that have most of a color, and True if none of them is at an
    edge, where a marker may be cut off.
    """
    shown = np.abs(image.astype(float) - color).max(-1) < 100
    rows, columns = np.nonzero(shown)
    if not len(rows):
        return np.full(2, np.nan), False
    edge = rows.min() == 0 or columns.min() == 0
    edge |= rows.max() == image.shape[0] - 1 or columns.max() == image.shape[1] - 1
    return np.array([rows.mean(), columns.mean()]) + 0.5, not edge


@pytest.mark.parametrize("given", MOVES, ids=lambda given: "-".join(map(str, given.values())))
def test_a_point_stays_under_its_marker(given: dict[str, Any]) -> None:
    # In a mirror image the left hand is where the right hand's marker is.
    swapped = given["op"] == "flip"
    colors = COLORS[[0, 2, 1, 3]] if swapped else COLORS
    compared = 0
    for example in changed_by(given):
        extent = np.array(example["image"].shape[:2])
        if not len(example["keypoints"]):
            continue
        for place, level, color in zip(
            example["keypoints"][0] * extent, example["visibility"][0], colors, strict=True
        ):
            center, is_whole = centroid(example["image"], color)
            # A mirrored border shows markers twice.
            if level and is_whole and given.get("fill", given.get("mode")) != "reflect":
                np.testing.assert_allclose(center, place, atol=1.3)
                compared += 1
            if level:
                row, column = np.clip(place.astype(int), 0, extent - 1)
                assert np.abs(example["image"][row, column] - color.astype(float)).max() < 140
    assert compared >= 10 or "reflect" in given.values()


@pytest.mark.parametrize("given", MOVES, ids=lambda given: "-".join(map(str, given.values())))
def test_a_point_is_annotated_exactly_as_long_as_it_is_inside(given: dict[str, Any]) -> None:
    for example in changed_by(given):
        for places, levels in zip(example["keypoints"], example["visibility"], strict=True):
            assert (places[levels == 0] == 0).all()
            assert ((places >= 0) & (places <= 1)).all()
            assert set(levels[:3]) <= {0, 2} and levels[3] in (0, 1)
            if given.get("fill", given.get("mode")) == "reflect":
                continue
            for level, color in zip(levels, COLORS, strict=True):
                # A marker that is shown as a whole has its center in the image.
                _, is_whole = centroid(example["image"], color)
                assert level or not is_whole or given["op"] == "flip"


@pytest.mark.parametrize("given", STAYS, ids=lambda given: given["op"])
def test_changes_of_color_move_no_point(given: dict[str, Any]) -> None:
    for example in changed_by(given, 3):
        np.testing.assert_array_equal(example["keypoints"], marked()["keypoints"])
        np.testing.assert_array_equal(example["visibility"], marked()["visibility"])


@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
def test_mirroring_swaps_left_and_right_and_a_second_time_restores_points(direction: str) -> None:
    axis = 1 if direction == "horizontal" else 0
    example = marked()
    example["visibility"] = tf.constant([[2, 2, 1, 0]])
    once = example | Keypoints.mirrored(example, axis)
    assert once["visibility"].numpy().tolist() == [[2, 1, 2, 0]]
    expected = (PLACES / SHAPE)[[0, 2, 1, 3]]
    expected[:, axis] = 1 - expected[:, axis]
    expected[3] = 0
    np.testing.assert_allclose(once["keypoints"][0], expected, atol=1e-6)
    twice = once | Keypoints.mirrored(once, axis)
    np.testing.assert_array_equal(twice["visibility"], example["visibility"])
    np.testing.assert_allclose(twice["keypoints"][0, :3], PLACES[:3] / SHAPE, atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_are_rotated_upright_with_their_photos(orientation: int) -> None:
    example = marked()
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(example["image"].numpy()).save(file, "JPEG", quality=95, exif=exif)
    encoded = tf.constant(file.getvalue())
    pixels = decode_image(encoded, 3).numpy()
    stored = {key: value for key, value in example.items() if key != "image"}
    extent = tf.constant(pixels.shape[:2])
    turned = upright({**stored, "bytes": encoded}, lambda: extent)
    # These orientations are mirror images.
    colors = COLORS[[0, 2, 1, 3]] if orientation in (2, 4, 5, 7) else COLORS
    for place, color in zip(turned["keypoints"][0].numpy(), colors, strict=True):
        row, column = (place * pixels.shape[:2]).astype(int)
        assert np.abs(pixels[row, column].astype(float) - color).max() < 90


def source(names: tuple[str, ...] = NAMES, records: int = 4) -> Source:
    """Two figures per image, of different classes; the second has one annotated point."""
    rows = 2 * records
    places = np.tile(PLACES / SHAPE, (rows, 1, 1)).astype(np.float32)
    visibility = np.tile(np.array([[2, 2, 2, 1], [2, 0, 0, 0]], np.int32), (records, 1))
    figures = collect(
        [f"{n}.xml" for n in range(records)],
        np.repeat(np.arange(records), 2),
        np.tile([[0.1, 0.1, 0.9, 0.9], [0.2, 0.2, 0.4, 0.4]], (records, 1)),
        np.tile([0, 1], records),
        np.zeros(rows, bool),
        np.full(rows, -1.0),
        str,
        more={"keypoints": places, "visibility": visibility},
    )
    pixels = marked()["image"]
    facts = Facts(("adult", "child"), names, ((1, 2),))

    def read_record(record: tf.Tensor) -> Example:
        # Each image differs, so that no image is a duplicate.
        return {"image": pixels + tf.cast(record, tf.uint8)}

    return keypoint_source(facts, figures, read_record, str)


def at(index: int) -> tf.Tensor:
    return tf.constant(index, tf.int64)


def test_points_are_kept_and_dropped_with_their_object() -> None:
    whole = source()
    example = whole.read(at(1))
    assert example["keypoints"].shape == (2, 4, 2) and example["visibility"].shape == (2, 4)
    assert example["mirror_order"].numpy().tolist() == [0, 2, 1, 3]
    assert whole.describe(1) == "1 adult, 1 child; 4 keypoints each"
    assert whole.at_most(1).read(at(0))["visibility"].numpy().tolist() == [[2, 2, 2, 1]]
    children = whole.relabel(("child",))
    assert children.read(at(0))["visibility"].numpy().tolist() == [[2, 0, 0, 0]]
    assert whole.digest() == source().digest() != children.digest()


def test_sources_of_the_same_keypoints_are_merged() -> None:
    merged = merge([{"train": source(records=2)}, {"train": source(records=3)}])["train"]
    assert len(merged) == 5 and merged.facts.keypoint_names == NAMES
    np.testing.assert_allclose(merged.read(at(4))["keypoints"][0] * SHAPE, PLACES, rtol=1e-5)


def test_sources_of_other_keypoints_are_not_merged() -> None:
    other = source(("head", "left_hand", "right_hand", "tail"))
    with pytest.raises(DataError, match="tail of one merged source aren't the head, left_hand"):
        merge([{"train": source()}, {"train": other}])


def test_sources_of_other_pairs_are_not_merged() -> None:
    plain = source()
    object.__setattr__(plain, "facts", plain.facts._replace(flip_pairs=()))
    with pytest.raises(DataError, match="same flip_pairs"):
        merge([{"train": source()}, {"train": plain}])


def test_a_check_counts_points_and_names_keypoints_that_are_never_annotated() -> None:
    found = check({"train": source()}, 3)
    assert found["splits"]["train"]["keypoints"] == {
        "head": {"visible": 8, "hidden": 0, "not_annotated": 0},
        "left_hand": {"visible": 4, "hidden": 0, "not_annotated": 4},
        "right_hand": {"visible": 4, "hidden": 0, "not_annotated": 4},
        "foot": {"visible": 0, "hidden": 4, "not_annotated": 4},
    }
    only = source().relabel(("child",))
    text = "\n".join(summary(check({"train": only}, 3)))
    assert "head 4 visible, 0 hidden" in text and "'foot' is annotated nowhere" in text
