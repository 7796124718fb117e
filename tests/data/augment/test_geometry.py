"""Flips, padded crops and resized crops: what comes out is a part of what went in, and every part has its turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.augment import Flip, PadCrop, RandomResizedCrop
from cvpipe.data.augment.geometry import flip, pad_crop, random_resized_crop

SIZE = (16, 16)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (height, width, channels), dtype=np.uint8)


def images(op: Callable[..., dict[str, tf.Tensor]], image: np.ndarray, count: int, *options: Any) -> np.ndarray:
    """The image as the operation leaves it under seeds 0 … count − 1, inside Dataset.map, of a size unknown beforehand."""

    def one(number: tf.Tensor) -> tf.Tensor:
        unknown = tf.ensure_shape(tf.py_function(lambda: image, [], image.dtype), [None, None, image.shape[-1]])
        return op({"image": unknown}, seed(number), *options)["image"]

    return np.stack(list(tf.data.Dataset.range(count).map(one).as_numpy_iterator()))


def seed(number: Any) -> tf.Tensor:
    return tf.stack([tf.cast(number, tf.int64), tf.constant(5, tf.int64)])


OPERATIONS = [
    pytest.param(flip, (Flip(op="flip"),), id="flip"),
    pytest.param(pad_crop, (PadCrop(op="pad_crop"),), id="pad_crop"),
    pytest.param(pad_crop, (PadCrop(op="pad_crop", mode="reflect"),), id="pad_crop reflect"),
    pytest.param(random_resized_crop, (RandomResizedCrop(op="random_resized_crop"), SIZE), id="random_resized_crop"),
]


@pytest.mark.parametrize("op, options", OPERATIONS)
def test_the_same_seed_gives_the_same_bits_eagerly_and_in_a_graph(op: Any, options: Any) -> None:
    image = noise(12, 10)
    in_map = images(op, image, 6, *options)
    eager = [op({"image": tf.constant(image)}, seed(n), *options)["image"].numpy() for n in range(6)]
    np.testing.assert_array_equal(in_map, np.stack(eager))
    assert len({one.tobytes() for one in eager}) > 1


@pytest.mark.parametrize("op, options", OPERATIONS)
def test_everything_but_the_image_stays_as_it_is(op: Any, options: Any) -> None:
    example = {"image": tf.constant(noise(12, 10)), "label": tf.constant(7), "name": tf.constant("x")}
    changed = op(example, seed(1), *options)
    assert changed.keys() == example.keys()
    assert changed["label"] is example["label"] and changed["name"] is example["name"]


@pytest.mark.parametrize("op, options", OPERATIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2)])
def test_tiny_images_pass(op: Any, options: Any, shape: tuple[int, int]) -> None:
    image = noise(*shape)
    expected = SIZE if op is random_resized_crop else shape
    assert images(op, image, 3, *options).shape == (3, *expected, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_flip_of_probability_1_mirrors_left_and_right_and_one_of_0_nothing(dtype: Any) -> None:
    image = noise(4, 5).astype(dtype)
    for flipped in images(flip, image, 20, Flip(op="flip", probability=1)):
        np.testing.assert_array_equal(flipped, image[:, ::-1])
    for flipped in images(flip, image, 20, Flip(op="flip", probability=0)):
        np.testing.assert_array_equal(flipped, image)


@pytest.mark.parametrize("probability", [0.5, 0.1])
def test_a_flip_is_as_frequent_as_asked_for(probability: float) -> None:
    image, count = noise(2, 3), 1000
    flipped = (images(flip, image, count, Flip(op="flip", probability=probability)) == image[:, ::-1]).all((1, 2, 3))
    assert abs(flipped.sum() - probability * count) < 4 * np.sqrt(count * probability * (1 - probability))


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_a_padded_crop_is_a_window_of_the_padded_image_and_all_windows_occur(mode: str) -> None:
    image, padding = noise(6, 7), 2
    padded = np.pad(image, [(padding, padding), (padding, padding), (0, 0)], mode)
    windows = np.lib.stride_tricks.sliding_window_view(padded, image.shape)[..., 0, :, :, :].reshape(25, *image.shape)
    cropped = images(pad_crop, image, 500, PadCrop(op="pad_crop", padding=padding, mode=mode))
    matches = (cropped[:, None] == windows).all((2, 3, 4))
    np.testing.assert_array_equal(matches.sum(1), 1)
    counts = matches.sum(0)
    # 20 each, within four standard deviations.
    assert abs(counts - 20).max() < 4 * np.sqrt(20)


@pytest.mark.parametrize("shape", [(3, 9), (9, 2), (1, 5)])
def test_reflection_of_an_image_smaller_than_the_padding_goes_as_far_as_the_image(shape: tuple[int, int]) -> None:
    image = noise(*shape)
    around = [(min(4, length - 1),) * 2 for length in shape]
    padded = np.pad(image, [*around, (0, 0)], "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, image.shape)[..., 0, :, :, :].reshape(-1, *image.shape)
    cropped = images(pad_crop, image, 400, PadCrop(op="pad_crop", padding=4, mode="reflect"))
    matches = (cropped[:, None] == windows).all((2, 3, 4))
    assert matches.any(1).all(), "a crop is no window of the padded image"
    assert matches.any(0).all(), "a window never occurs"


def test_a_padded_crop_keeps_a_known_shape() -> None:
    data = tf.data.Dataset.from_tensors(noise(6, 7)).map(lambda image: pad_crop({"image": image}, seed(0), PadCrop(op="pad_crop")))
    assert data.element_spec["image"].shape == [6, 7, 3]


# Each pixel says where it is: its row and its column.
PLACES = np.stack([*np.mgrid[0:60, 0:80], np.zeros((60, 80))], -1).astype(np.uint8)


def boxes(crops: np.ndarray) -> np.ndarray:
    """Top, left, height, width of crops of PLACES, read off the inner pixels, where interpolation is linear: [N, 4]."""
    found = []
    for axis, channel in ((1, 0), (2, 1)):
        places = crops[..., channel].mean(3 - axis)
        scale = (places[:, 11] - places[:, 4]) / 7
        found.append((places[:, 4] + 0.5 - 4.5 * scale, 16 * scale))
    (top, height), (left, width) = found
    return np.stack([top, left, height, width], -1)


@pytest.mark.parametrize("area, aspect", [((0.08, 1.0), (0.75, 4 / 3)), ((0.2, 0.3), (0.5, 2.0)), ((0.5, 0.5), (1.0, 1.0))])
def test_resized_crops_keep_to_their_area_and_aspect(area: tuple[float, float], aspect: tuple[float, float]) -> None:
    op = RandomResizedCrop(op="random_resized_crop", area=area, aspect=aspect)
    crops = images(random_resized_crop, PLACES, 200, op, SIZE)
    assert crops.dtype == np.float32 and crops.shape == (200, *SIZE, 3)
    top, left, height, width = boxes(crops).T
    # A side is a whole number of pixels, so that area and aspect are met to half a pixel a side.
    assert ((height - 0.6) * (width - 0.6) <= area[1] * 4800).all() and ((height + 0.6) * (width + 0.6) >= area[0] * 4800).all()
    assert ((width - 0.6) / (height + 0.6) <= aspect[1]).all() and ((width + 0.6) / (height - 0.6) >= aspect[0]).all()
    assert min(top.min(), left.min()) > -0.1 and (top + height).max() < 60.1 and (left + width).max() < 80.1


def test_areas_and_aspects_are_spread_evenly() -> None:
    # Small enough always to fit, so that no try is thrown away.
    op = RandomResizedCrop(op="random_resized_crop", area=(0.1, 0.4), aspect=(0.8, 1.25))
    _, _, height, width = boxes(images(random_resized_crop, PLACES, 600, op, SIZE)).T
    for value, low, high in ((height * width / 4800, 0.1, 0.4), (np.log(width / height), np.log(0.8), np.log(1.25))):
        share = (value - low) / (high - low)
        # Mean and variance of an even spread, within four standard deviations.
        assert abs(share.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / 600)
        assert abs(share.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / 600)


def test_resized_crops_use_the_whole_range_of_areas_and_places() -> None:
    op = RandomResizedCrop(op="random_resized_crop", area=(0.1, 0.9), aspect=(0.75, 4 / 3))
    top, left, height, width = boxes(images(random_resized_crop, PLACES, 300, op, SIZE)).T
    area = height * width / 4800
    assert area.min() < 0.15 and area.max() > 0.8
    assert top.min() < 1 and left.min() < 1 and (top + height).max() > 59 and (left + width).max() > 79
    assert len({*zip(top.round(), left.round())}) > 200


def test_all_places_of_a_crop_are_as_frequent() -> None:
    # Nine sixteenths of 4 × 4 are 3 × 3, at one of four places.
    image, op = noise(4, 4), RandomResizedCrop(op="random_resized_crop", area=(9 / 16, 9 / 16), aspect=(1.0, 1.0))
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3, 3))[..., 0, :, :, :].reshape(4, 3, 3, 3)
    matches = (images(random_resized_crop, image, 400, op, (3, 3))[:, None] == windows).all((2, 3, 4))
    np.testing.assert_array_equal(matches.sum(1), 1)
    assert abs(matches.sum(0) - 100).max() < 4 * np.sqrt(100)


def test_a_crop_of_the_whole_area_is_the_resized_image() -> None:
    op = RandomResizedCrop(op="random_resized_crop", area=(1.0, 1.0), aspect=(4 / 3, 4 / 3))
    for crop in images(random_resized_crop, PLACES, 5, op, SIZE):
        np.testing.assert_array_equal(crop, tf.image.resize(PLACES, SIZE, antialias=True))


def test_a_crop_that_doesnt_fit_is_the_whole_image() -> None:
    # Nothing of four fifths of the area is ten times as wide as high.
    op = RandomResizedCrop(op="random_resized_crop", area=(0.8, 1.0), aspect=(10.0, 10.0))
    [crop] = images(random_resized_crop, PLACES, 1, op, SIZE)
    np.testing.assert_array_equal(crop, tf.image.resize(PLACES, SIZE, antialias=True))
