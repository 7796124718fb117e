"""Guards masks under augmentation: they move with the image's pixels."""

from __future__ import annotations

import typing
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter
from scipy import stats

from cvpipe.config.augment.augmentation import Augmentation
from cvpipe.config.augment.crops import BalancedScaleCrop, ScaleCrop
from cvpipe.config.segmentation import SegmentationAugmentation
from cvpipe.data.augment import augment
from cvpipe.data.augment.scale_crop import random_pixel, scale_crop
from cvpipe.data.sources import Example
from cvpipe.geometry.masks import IGNORED

SHAPE, SIZE, SEEDS = (90, 120), (80, 96), 12
# Operations, each with the smallest mean share of the mask that stays labeled.
MOVES: list[tuple[dict[str, Any], float]] = [
    ({"op": "flip"}, 1),
    ({"op": "flip", "direction": "vertical"}, 1),
    ({"op": "pad_crop", "padding": 25}, 0.7),
    ({"op": "pad_crop", "padding": 9, "mode": "reflect"}, 0.8),
    ({"op": "random_resized_crop", "area": [0.1, 1]}, 1),
    ({"op": "short_side_crop", "sides": [96, 170]}, 1),
    ({"op": "translate", "share": 0.6}, 0.4),
    ({"op": "translate", "share": 0.9, "fill": "reflect"}, 1),
    ({"op": "rotate", "degrees": 180}, 0.6),
    ({"op": "rotate", "degrees": 90, "fill": "nearest"}, 1),
    ({"op": "shear", "degrees": 40}, 0.6),
    ({"op": "lens", "strength": 0.5}, 0.7),
    ({"op": "lens", "strength": 0.5, "fill": "reflect"}, 1),
    ({"op": "elastic", "share": 0.1}, 0.7),
    ({"op": "elastic", "share": 0.1, "fill": "nearest"}, 1),
    ({"op": "expand", "probability": 0.8, "ratio": 3}, 0.2),
    ({"op": "scale_jitter"}, 0.6),
    ({"op": "scale_crop"}, 0.6),
    ({"op": "scale_crop", "balance": 0.5, "scale": [0.3, 3]}, 0.5),
]
STAYS: list[dict[str, Any]] = [
    {"op": "color_jitter", "brightness": 0.5, "contrast": 0.5},
    {"op": "pca_lighting"},
    {"op": "grayscale", "probability": 1},
    {"op": "erase", "probability": 1},
    {"op": "cutout"},
]
each_move = pytest.mark.parametrize(
    "given", [given for given, _ in MOVES], ids=lambda given: "-".join(map(str, given.values()))
)


def operation(given: dict[str, Any]) -> Augmentation:
    op: Augmentation = TypeAdapter(SegmentationAugmentation).validate_python(given)
    return op


def painted(shape: tuple[int, int] = SHAPE) -> Example:
    """A rectangle and an ellipse, white in the image and 1 in the mask."""
    y, x = np.mgrid[: shape[0], : shape[1]] / np.array(shape)[:, np.newaxis, np.newaxis]
    is_shape = ((y > 0.2) & (y < 0.7) & (x > 0.1) & (x < 0.5)) | (
        np.hypot(y - 0.5, x - 0.75) < 0.22
    )
    image = np.repeat(255 * is_shape[..., np.newaxis], 3, -1).astype(np.uint8)
    return {
        "image": tf.constant(image),
        "mask": tf.constant(is_shape[..., np.newaxis].astype(np.uint8)),
        "name": tf.constant("x"),
    }


def unknown(example: Example) -> Example:
    """Return the example with unknown static shapes, as after decoding."""
    image, mask = (
        tf.py_function(lambda key=key: example[key], [], tf.uint8) for key in ("image", "mask")
    )
    return {
        **example,
        "image": tf.ensure_shape(image, [None, None, 3]),
        "mask": tf.ensure_shape(mask, [None, None, 1]),
    }


def seed(number: Any) -> tf.Tensor:
    return tf.stack([tf.cast(number, tf.int64), tf.constant(0, tf.int64)])


def in_map(function: Any, count: int = SEEDS) -> list[dict[str, np.ndarray]]:
    """Return the outputs of the function for seeds 0 … count − 1, mapped inside a Dataset."""
    function = tf.autograph.experimental.do_not_convert(function)
    return list(
        tf.data.Dataset.range(count).map(lambda number: function(seed(number))).as_numpy_iterator()
    )


def changed_by(
    given: dict[str, Any], example: Example, count: int = SEEDS
) -> list[dict[str, np.ndarray]]:
    op, colors = operation(given), (np.full(3, 0.1), np.eye(3))
    return in_map(lambda key: augment(unknown(example), key, [op], SIZE, colors), count)


@pytest.mark.parametrize(
    "given, labeled",
    MOVES,
    ids=lambda given: "-".join(map(str, given.values())) if isinstance(given, dict) else "",
)
def test_a_mask_shows_what_the_image_shows(given: dict[str, Any], labeled: float) -> None:
    shares = []
    for changed in changed_by(given, painted()):
        mask, white = changed["mask"][..., 0], changed["image"][..., 0] > 127.5
        assert mask.dtype == np.uint8 and mask.shape == white.shape and changed["name"] == b"x"
        assert set(np.unique(mask)) <= {0, 1, IGNORED}
        counts = mask != IGNORED
        assert (white == mask)[counts].mean() > 0.97
        shares.append(counts.mean())
    assert np.mean(shares) >= labeled
    assert labeled < 1 or np.min(shares) == 1


@each_move
def test_masks_are_the_same_eagerly_and_in_a_graph_and_every_time(given: dict[str, Any]) -> None:
    random, op = np.random.default_rng(0), operation(given)
    examples: list[Example] = [
        {
            key: tf.constant(random.integers(0, 7, (*shape, channels), np.uint8))
            for key, channels in (("image", 3), ("mask", 1))
        }
        for shape in [SHAPE, (160, 192), (5, 3), (1, 1)]
    ]

    def one(number: tf.Tensor) -> Example:
        parts = tf.py_function(
            lambda n: [examples[n][key] for key in ("image", "mask")],
            [number],
            [tf.uint8, tf.uint8],
        )
        image, mask = (
            tf.ensure_shape(part, [None, None, channels]) for part, channels in zip(parts, (3, 1))
        )
        return augment({"image": image, "mask": mask}, seed(number), [op], SIZE)

    data = tf.data.Dataset.range(len(examples)).map(tf.autograph.experimental.do_not_convert(one))
    for number, (changed, again) in enumerate(
        zip(data.as_numpy_iterator(), data.as_numpy_iterator())
    ):
        eager = augment(examples[number], seed(number), [op], SIZE)
        assert changed["mask"].shape[:2] == changed["image"].shape[:2]
        assert set(np.unique(changed["mask"])) <= {*np.unique(examples[number]["mask"]), IGNORED}
        np.testing.assert_array_equal(changed["mask"], again["mask"])
        np.testing.assert_array_equal(changed["mask"], eager["mask"])


@each_move
def test_pixels_from_outside_the_image_are_ignored(given: dict[str, Any]) -> None:
    gray = {
        "image": tf.fill([*SHAPE, 3], tf.constant(200, tf.uint8)),
        "mask": tf.ones([*SHAPE, 1], tf.uint8),
    }
    for number in range(4):
        changed = augment(gray, seed(number), [operation(given)], SIZE)
        image, mask = changed["image"].numpy()[..., 0], changed["mask"].numpy()[..., 0]
        # If the nearest pixel is in the image, it makes up at least a quarter of the blend.
        assert (image[mask == 1] > 45).all() and (mask[image == 0] == IGNORED).all()


@each_move
def test_ignored_pixels_stay_ignored_wherever_they_go(given: dict[str, Any]) -> None:
    nothing = {**painted(), "mask": tf.fill([*SHAPE, 1], tf.constant(IGNORED, tf.uint8))}
    assert (augment(nothing, seed(1), [operation(given)], SIZE)["mask"].numpy() == IGNORED).all()


@pytest.mark.parametrize("given", STAYS, ids=lambda given: given["op"])
def test_operations_that_move_nothing_leave_the_mask_unchanged(given: dict[str, Any]) -> None:
    example, different = painted(), False
    for changed in changed_by(given, example):
        np.testing.assert_array_equal(changed["mask"], example["mask"])
        different |= bool((changed["image"] != example["image"].numpy()).any())
    assert different or given["op"] == "grayscale"


def test_every_operation_for_masks_is_tested_here() -> None:
    union, _ = typing.get_args(SegmentationAugmentation)
    names = {
        typing.get_args(section.model_fields["op"].annotation)[0]
        for section in typing.get_args(union)
    }
    assert names == {given["op"] for given in [*(given for given, _ in MOVES), *STAYS]}


# -- crops of images resized at random


def coordinates(shape: tuple[int, int]) -> Example:
    """An image whose pixels contain their positions, with a mask of several labels."""
    places = np.stack([*np.mgrid[: shape[0], : shape[1]], np.zeros(shape, int)], -1).astype(
        np.uint8
    )
    labels = np.random.default_rng(0).integers(0, 9, (*shape, 1), np.uint8)
    return {"image": tf.constant(places), "mask": tf.constant(labels)}


def section(**keys: Any) -> ScaleCrop:
    return BalancedScaleCrop(op="scale_crop", **keys)


def crops(
    example: Example, op: ScaleCrop, size: tuple[int, int], count: int
) -> list[dict[str, np.ndarray]]:
    return in_map(lambda key: scale_crop(unknown(example), key, op, size), count)


def test_without_resizing_every_pixel_keeps_its_label_and_all_places_occur() -> None:
    example = coordinates((20, 30))
    corners = []
    for crop in crops(example, section(scale=(1, 1)), (16, 12), 400):
        y, x = crop["image"][..., 0].astype(int), crop["image"][..., 1].astype(int)
        np.testing.assert_array_equal(crop["image"], np.stack([y, x, 0 * y], -1))
        np.testing.assert_array_equal(y - y[0, 0], np.mgrid[:16, :12][0])
        np.testing.assert_array_equal(crop["mask"], example["mask"].numpy()[y, x])
        corners.append((y[0, 0], x[0, 0]))
    for axis, places in ((0, 5), (1, 19)):
        assert (
            stats.chisquare(
                np.bincount([corner[axis] for corner in corners], minlength=places)
            ).pvalue
            > 1e-3
        )


def test_a_smaller_image_is_placed_anywhere_on_its_mean_color() -> None:
    example, corners = coordinates((10, 8)), set()
    for crop in crops(example, section(scale=(1, 1)), (13, 10), 100):
        is_inside = crop["mask"][..., 0] != IGNORED
        (top, *_, bottom), (left, *_, right) = (
            np.flatnonzero(is_inside.any(axis)) for axis in (1, 0)
        )
        assert (bottom - top, right - left) == (9, 7) and is_inside.sum() == 80
        np.testing.assert_array_equal(
            crop["mask"][is_inside], example["mask"].numpy().reshape(-1, 1)
        )
        np.testing.assert_array_equal(
            crop["image"][is_inside], example["image"].numpy().reshape(-1, 3)
        )
        np.testing.assert_allclose(
            crop["image"][~is_inside], np.broadcast_to([4.5, 3.5, 0], (50, 3))
        )
        corners.add((top, left))
    assert len(corners) == 12


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_a_resized_crop_is_the_crop_of_the_resized_image(factor: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    example = {"image": tf.constant(noise), "mask": tf.constant(noise[..., :1])}
    whole = tf.image.resize(noise, [int(20 * factor), int(24 * factor)], antialias=True).numpy()
    whole_mask = tf.image.resize(noise[..., :1], whole.shape[:2], "nearest").numpy()
    for crop in crops(example, section(scale=(factor, factor)), (8, 9), 10):
        places = np.ndindex(whole.shape[0] - 7, whole.shape[1] - 8)
        [(y, x)] = [
            (y, x)
            for y, x in places
            if np.abs(whole[y : y + 8, x : x + 9] - crop["image"]).max() < 0.01
        ]
        np.testing.assert_array_equal(crop["mask"], whole_mask[y : y + 8, x : x + 9])


def test_factors_are_spread_evenly_on_a_logarithmic_scale() -> None:
    white = {"image": tf.zeros([200, 200, 1], tf.uint8), "mask": tf.zeros([200, 200, 1], tf.uint8)}
    op = section(scale=(0.1, 0.8))
    data = in_map(lambda key: {"mask": scale_crop(white, key, op, (200, 200))["mask"]}, 300)
    sides = np.array([np.count_nonzero((crop["mask"] == 0).any(1)) for crop in data])
    assert stats.kstest(np.log(sides / 20) / np.log(8), stats.uniform(0, 1).cdf).pvalue > 1e-3


def test_balanced_crops_show_rare_classes_as_often_as_others() -> None:
    mask = np.zeros((120, 150, 1), np.uint8)
    mask[100:103, 5:8], mask[0, 149], mask[50:60] = 1, 2, IGNORED
    example = {"image": tf.zeros([120, 150, 1], tf.uint8), "mask": tf.constant(mask)}
    shown: dict[float, np.ndarray] = {}
    for balance in (0.0, 1.0):
        op = section(scale=(1, 1), balance=balance)
        masks = [
            crop["mask"] for crop in in_map(lambda key: scale_crop(example, key, op, (24, 24)), 150)
        ]
        shown[balance] = np.array([[label in one for label in (1, 2)] for one in masks]).mean(0)
        assert all((one != IGNORED).any() for one in masks)
    # A random crop shows a patch in at most one of 20 cases; the drawn class is one of three.
    assert (shown[0.0] < 0.1).all() and (np.abs(shown[1.0] - 1 / 3) < 0.14).all()


def places_drawn(mask: np.ndarray, count: int) -> list[tuple[float, ...]]:
    return [
        tuple(draw["place"].tolist())
        for draw in in_map(lambda key: {"place": random_pixel(tf.constant(mask), key)}, count)
    ]


def test_a_pixel_is_drawn_evenly_by_class_then_by_place() -> None:
    mask = np.full((6, 7, 1), IGNORED, np.uint8)
    mask[0, 2:5], mask[4, 6], mask[5, 0], mask[2, 2] = 3, 3, 3, 254
    places = places_drawn(mask, 600)
    expected = {
        (0.5, 2.5): 60,
        (0.5, 3.5): 60,
        (0.5, 4.5): 60,
        (4.5, 6.5): 60,
        (5.5, 0.5): 60,
        (2.5, 2.5): 300,
    }
    assert set(places) == set(expected)
    assert (
        stats.chisquare([places.count(place) for place in expected], list(expected.values())).pvalue
        > 1e-3
    )


def test_any_pixel_of_a_mask_without_labels_can_be_drawn() -> None:
    assert len(set(places_drawn(np.full((4, 5, 1), IGNORED, np.uint8), 200))) == 20
