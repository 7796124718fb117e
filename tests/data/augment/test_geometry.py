"""Guards flips, crops, rotations, translations and distortions: frequencies, places and amounts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from scipy.ndimage import map_coordinates

from cvpipe.config.augment.crops import PadCrop, RandomResizedCrop, ShortSideCrop
from cvpipe.config.augment.geometry import Elastic, Flip, Lens, Rotate, Shear, Translate
from cvpipe.data.augment.geometry import (
    elastic,
    flip,
    lens,
    pad_crop,
    random_resized_crop,
    rotate,
    shear,
    short_side_crop,
    translate,
)

SIZE = (16, 16)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (height, width, channels), dtype=np.uint8)


def images(
    op: Callable[..., dict[str, tf.Tensor]], image: np.ndarray, count: int, *options: Any
) -> np.ndarray:
    """Return the image changed by the operation with seeds 0 … count − 1, inside Dataset.map, with
    unknown static size.
    """

    def one(number: tf.Tensor) -> tf.Tensor:
        unknown = tf.ensure_shape(
            tf.py_function(lambda: image, [], image.dtype), [None, None, image.shape[-1]]
        )
        return op({"image": unknown}, seed(number), *options)["image"]

    return np.stack(list(tf.data.Dataset.range(count).map(one).as_numpy_iterator()))


def seed(number: Any) -> tf.Tensor:
    return tf.stack([tf.cast(number, tf.int64), tf.constant(5, tf.int64)])


OPERATIONS = [
    pytest.param(flip, (Flip(op="flip"),), id="flip"),
    pytest.param(pad_crop, (PadCrop(op="pad_crop"),), id="pad_crop"),
    pytest.param(pad_crop, (PadCrop(op="pad_crop", mode="reflect"),), id="pad_crop reflect"),
    pytest.param(
        random_resized_crop,
        (RandomResizedCrop(op="random_resized_crop"), SIZE),
        id="random_resized_crop",
    ),
    pytest.param(
        short_side_crop,
        (ShortSideCrop(op="short_side_crop", sides=(16, 24)), SIZE),
        id="short_side_crop",
    ),
    pytest.param(rotate, (Rotate(op="rotate"),), id="rotate"),
    pytest.param(translate, (Translate(op="translate"),), id="translate"),
    pytest.param(shear, (Shear(op="shear"),), id="shear"),
    pytest.param(lens, (Lens(op="lens"),), id="lens"),
    pytest.param(elastic, (Elastic(op="elastic"),), id="elastic"),
]


@pytest.mark.parametrize("op, options", OPERATIONS)
def test_the_same_seed_gives_the_same_bits_eagerly_and_in_a_graph(op: Any, options: Any) -> None:
    image = noise(12, 10)
    in_map = images(op, image, 6, *options)
    eager = [
        op({"image": tf.constant(image)}, seed(n), *options)["image"].numpy() for n in range(6)
    ]
    np.testing.assert_array_equal(in_map, np.stack(eager))
    assert len({one.tobytes() for one in eager}) > 1


@pytest.mark.parametrize("op, options", OPERATIONS)
def test_only_the_image_changes(op: Any, options: Any) -> None:
    example = {
        "image": tf.constant(noise(12, 10)),
        "label": tf.constant(7),
        "name": tf.constant("x"),
    }
    changed = op(example, seed(1), *options)
    assert changed.keys() == example.keys()
    assert changed["label"] is example["label"] and changed["name"] is example["name"]


@pytest.mark.parametrize("op, options", OPERATIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2)])
def test_tiny_images_pass(op: Any, options: Any, shape: tuple[int, int]) -> None:
    image = noise(*shape)
    expected = SIZE if op in (random_resized_crop, short_side_crop) else shape
    assert images(op, image, 3, *options).shape == (3, *expected, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    "direction, mirrored", [("horizontal", np.s_[:, ::-1]), ("vertical", np.s_[::-1])]
)
def test_a_flip_mirrors_always_for_probability_1_and_never_for_0(
    direction: Any, mirrored: Any, dtype: Any
) -> None:
    image = noise(4, 5).astype(dtype)
    for flipped in images(flip, image, 20, Flip(op="flip", direction=direction, probability=1)):
        np.testing.assert_array_equal(flipped, image[mirrored])
    for flipped in images(flip, image, 20, Flip(op="flip", direction=direction, probability=0)):
        np.testing.assert_array_equal(flipped, image)


@pytest.mark.parametrize("probability", [0.5, 0.1])
def test_a_flip_is_as_frequent_as_its_probability(probability: float) -> None:
    image, count = noise(2, 3), 1000
    flipped = (
        images(flip, image, count, Flip(op="flip", probability=probability)) == image[:, ::-1]
    ).all((1, 2, 3))
    assert abs(flipped.sum() - probability * count) < 4 * np.sqrt(
        count * probability * (1 - probability)
    )


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_a_padded_crop_is_a_window_of_the_padded_image_and_all_windows_occur(mode: str) -> None:
    image, padding = noise(6, 7), 2
    padded = np.pad(image, [(padding, padding), (padding, padding), (0, 0)], mode)
    windows = np.lib.stride_tricks.sliding_window_view(padded, image.shape)[
        ..., 0, :, :, :
    ].reshape(25, *image.shape)
    cropped = images(pad_crop, image, 500, PadCrop(op="pad_crop", padding=padding, mode=mode))
    matches = (cropped[:, None] == windows).all((2, 3, 4))
    np.testing.assert_array_equal(matches.sum(1), 1)
    counts = matches.sum(0)
    # 20 each, within four standard deviations.
    assert abs(counts - 20).max() < 4 * np.sqrt(20)


@pytest.mark.parametrize("shape", [(3, 9), (9, 2), (1, 5)])
def test_reflection_padding_is_limited_by_the_size_of_the_image(shape: tuple[int, int]) -> None:
    image = noise(*shape)
    around = [(min(4, length - 1),) * 2 for length in shape]
    padded = np.pad(image, [*around, (0, 0)], "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, image.shape)[
        ..., 0, :, :, :
    ].reshape(-1, *image.shape)
    cropped = images(pad_crop, image, 400, PadCrop(op="pad_crop", padding=4, mode="reflect"))
    matches = (cropped[:, None] == windows).all((2, 3, 4))
    assert matches.any(1).all(), "a crop is no window of the padded image"
    assert matches.any(0).all(), "a window never occurs"


def test_a_padded_crop_keeps_a_known_shape() -> None:
    data = tf.data.Dataset.from_tensors(noise(6, 7)).map(
        lambda image: pad_crop({"image": image}, seed(0), PadCrop(op="pad_crop"))
    )
    assert data.element_spec["image"].shape == [6, 7, 3]


# Each pixel contains its row and its column.
PLACES = np.stack([*np.mgrid[0:60, 0:80], np.zeros((60, 80))], -1).astype(np.uint8)


def boxes(crops: np.ndarray) -> np.ndarray:
    """Top, left, height, width of crops of PLACES, read off the inner pixels, where interpolation
    is linear: [N, 4].
    """
    found = []
    for axis, channel in ((1, 0), (2, 1)):
        places = crops[..., channel].mean(3 - axis)
        scale = (places[:, 11] - places[:, 4]) / 7
        found.append((places[:, 4] + 0.5 - 4.5 * scale, 16 * scale))
    (top, height), (left, width) = found
    return np.stack([top, left, height, width], -1)


@pytest.mark.parametrize(
    "area, aspect",
    [((0.08, 1.0), (0.75, 4 / 3)), ((0.2, 0.3), (0.5, 2.0)), ((0.5, 0.5), (1.0, 1.0))],
)
def test_resized_crops_keep_to_their_area_and_aspect(
    area: tuple[float, float], aspect: tuple[float, float]
) -> None:
    op = RandomResizedCrop(op="random_resized_crop", area=area, aspect=aspect)
    crops = images(random_resized_crop, PLACES, 200, op, SIZE)
    assert crops.dtype == np.float32 and crops.shape == (200, *SIZE, 3)
    top, left, height, width = boxes(crops).T
    # A side is a whole number of pixels, so that area and aspect are met to half a pixel a side.
    assert ((height - 0.6) * (width - 0.6) <= area[1] * 4800).all() and (
        (height + 0.6) * (width + 0.6) >= area[0] * 4800
    ).all()
    assert ((width - 0.6) / (height + 0.6) <= aspect[1]).all() and (
        (width + 0.6) / (height - 0.6) >= aspect[0]
    ).all()
    assert (
        min(top.min(), left.min()) > -0.1
        and (top + height).max() < 60.1
        and (left + width).max() < 80.1
    )


def test_areas_and_aspects_are_spread_evenly() -> None:
    # Areas are small enough to always fit, so that no draw is rejected.
    op = RandomResizedCrop(op="random_resized_crop", area=(0.1, 0.4), aspect=(0.8, 1.25))
    _, _, height, width = boxes(images(random_resized_crop, PLACES, 600, op, SIZE)).T
    for value, low, high in (
        (height * width / 4800, 0.1, 0.4),
        (np.log(width / height), np.log(0.8), np.log(1.25)),
    ):
        share = (value - low) / (high - low)
        # Mean and variance of a uniform distribution, within four standard deviations.
        assert abs(share.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / 600)
        assert abs(share.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / 600)


def test_resized_crops_use_the_whole_range_of_areas_and_places() -> None:
    op = RandomResizedCrop(op="random_resized_crop", area=(0.1, 0.9), aspect=(0.75, 4 / 3))
    top, left, height, width = boxes(images(random_resized_crop, PLACES, 300, op, SIZE)).T
    area = height * width / 4800
    assert area.min() < 0.15 and area.max() > 0.8
    assert (
        top.min() < 1 and left.min() < 1 and (top + height).max() > 59 and (left + width).max() > 79
    )
    assert len({*zip(top.round(), left.round())}) > 200


def test_all_places_of_a_crop_are_equally_frequent() -> None:
    # Nine sixteenths of 4 × 4 are 3 × 3, at one of four places.
    image, op = (
        noise(4, 4),
        RandomResizedCrop(op="random_resized_crop", area=(9 / 16, 9 / 16), aspect=(1.0, 1.0)),
    )
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3, 3))[..., 0, :, :, :].reshape(
        4, 3, 3, 3
    )
    matches = (images(random_resized_crop, image, 400, op, (3, 3))[:, None] == windows).all(
        (2, 3, 4)
    )
    np.testing.assert_array_equal(matches.sum(1), 1)
    assert abs(matches.sum(0) - 100).max() < 4 * np.sqrt(100)


def test_a_crop_of_the_whole_area_is_the_resized_image() -> None:
    op = RandomResizedCrop(op="random_resized_crop", area=(1.0, 1.0), aspect=(4 / 3, 4 / 3))
    for crop in images(random_resized_crop, PLACES, 5, op, SIZE):
        np.testing.assert_array_equal(crop, tf.image.resize(PLACES, SIZE, "area"))


def test_a_crop_that_doesnt_fit_is_the_whole_image() -> None:
    # No crop with four fifths of the area can be ten times as wide as high.
    op = RandomResizedCrop(op="random_resized_crop", area=(0.8, 1.0), aspect=(10.0, 10.0))
    [crop] = images(random_resized_crop, PLACES, 1, op, SIZE)
    np.testing.assert_array_equal(crop, tf.image.resize(PLACES, SIZE, "area"))


@pytest.mark.parametrize("shape", [(9, 6), (6, 9), (7, 7), (12, 4)])
def test_a_short_side_crop_is_a_window_of_the_resized_image_and_all_windows_occur(
    shape: tuple[int, int],
) -> None:
    image, side = noise(*shape), 8
    extent = tuple(round(length * side / min(shape)) for length in shape)
    resized = tf.image.resize(image, extent, antialias=True).numpy()
    windows = np.lib.stride_tricks.sliding_window_view(resized, (8, 7, 3))[..., 0, :, :, :].reshape(
        -1, 8, 7, 3
    )
    crops = images(
        short_side_crop,
        image,
        20 * len(windows),
        ShortSideCrop(op="short_side_crop", sides=(side, side)),
        (8, 7),
    )
    matches = (abs(crops[:, None] - windows) < 0.02).all((2, 3, 4))
    assert crops.dtype == np.float32
    np.testing.assert_array_equal(matches.sum(1), 1)
    assert abs(matches.sum(0) - 20).max() < 4.5 * np.sqrt(20)


def test_all_lengths_of_the_short_side_are_equally_frequent() -> None:
    # The first channel is the row: its slope shows how far the image was stretched.
    crops = images(
        short_side_crop, PLACES, 600, ShortSideCrop(op="short_side_crop", sides=(60, 65)), (20, 20)
    )
    sides = 60 * 10 / (crops[:, 15, 10, 0] - crops[:, 5, 10, 0])
    np.testing.assert_allclose(sides, sides.round(), atol=0.05)
    counts = np.bincount(sides.round().astype(int), minlength=66)[60:]
    assert counts.sum() == 600 and stats.chisquare(counts).pvalue > 1e-3


# Each pixel contains its position, so a moved pixel shows where it came from.
RAMP = np.stack(np.mgrid[0:9, 0:9], -1).astype(np.float32)


def assert_spread_evenly(values: np.ndarray, reach: float) -> None:
    assert stats.kstest(values, stats.uniform(-reach, 2 * reach).cdf).pvalue > 1e-3


def test_angles_are_spread_evenly() -> None:
    turned = images(rotate, RAMP, 300, Rotate(op="rotate", degrees=30))
    across = turned[:, 4, 5] - turned[:, 4, 4]
    assert_spread_evenly(np.degrees(np.arctan2(across[:, 0], across[:, 1])), 30)
    np.testing.assert_allclose(turned[:, 4, 4], 4, err_msg="the center moves", atol=1e-5)


def test_angles_reach_a_half_turn_in_both_directions() -> None:
    turned = images(rotate, RAMP, 300, Rotate(op="rotate", degrees=180))
    across = turned[:, 4, 5] - turned[:, 4, 4]
    assert_spread_evenly(np.degrees(np.arctan2(across[:, 0], across[:, 1])), 180)


def test_slants_are_spread_evenly() -> None:
    slanted = images(shear, RAMP, 300, Shear(op="shear", degrees=40))
    assert_spread_evenly(np.degrees(np.arctan(slanted[:, 5, 4, 1] - slanted[:, 4, 4, 1])), 40)
    np.testing.assert_allclose(
        slanted[:, :, 4, 0],
        np.broadcast_to(RAMP[:, 4, 0], (300, 9)),
        err_msg="rows move",
        atol=1e-5,
    )


def test_moves_are_spread_evenly_down_and_across_as_a_share_of_the_image() -> None:
    wide = np.stack(np.mgrid[0:9, 0:21], -1).astype(np.float32)
    moved = images(translate, wide, 300, Translate(op="translate", share=0.3))
    down, right = 4 - moved[:, 4, 10, 0], 10 - moved[:, 4, 10, 1]
    assert_spread_evenly(down, 0.3 * 9)
    assert_spread_evenly(right, 0.3 * 21)
    assert abs(np.corrcoef(down, right)[0, 1]) < 4 / np.sqrt(300)


def lens_strengths(count: int, strength: float) -> np.ndarray:
    """Return the drawn strengths of a lens of at most `strength`, [count], computed from a pixel
    halfway to a corner, where r² is 1/4.
    """
    bent = images(lens, RAMP, count, Lens(op="lens", strength=strength))
    return (4 - bent[:, 2, 2, 0] - 2) / 2 * 4


def test_lens_strengths_are_spread_evenly() -> None:
    assert_spread_evenly(lens_strengths(300, 0.4), 0.4)


@pytest.mark.parametrize(
    "fill, mode", [("constant", "grid-constant"), ("reflect", "reflect"), ("nearest", "nearest")]
)
def test_a_lens_bends_by_browns_first_radial_term(fill: Any, mode: str) -> None:
    image = noise(9, 9)
    y, x = np.mgrid[0:9, 0:9] - 4.0
    for bent, k in zip(
        images(lens, image, 6, Lens(op="lens", strength=0.5, fill=fill)), lens_strengths(6, 0.5)
    ):
        scale = 1 + k * (x**2 + y**2) / 32
        for channel in range(3):
            expected = map_coordinates(
                image[..., channel].astype(float),
                [4 + y * scale, 4 + x * scale],
                order=1,
                mode=mode,
            )
            np.testing.assert_allclose(bent[..., channel], expected, atol=0.01)


def test_displacements_are_normal_smooth_and_have_the_configured_size() -> None:
    ramp = np.stack(np.mgrid[0:60, 0:90], -1).astype(np.float32)
    bent = images(elastic, ramp, 200, Elastic(op="elastic", share=0.02, fill="nearest")) - ramp
    # The middle of the image is a point of the grid of three.
    middle = bent[:, 29:31, 44:46].mean((1, 2))
    assert stats.kstest(middle.ravel(), stats.norm(0, 0.02 * 60).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(middle.T)[0, 1]) < 4 / np.sqrt(200)
    inside = bent[:, 10:-10, 10:-10]
    assert max(np.abs(np.diff(inside, axis=axis)).max() for axis in (1, 2)) < 0.5
    assert np.abs(inside[:, 0, 0] - inside[:, -1, -1]).mean() > 0.5, "all of the image moves as one"


@pytest.mark.parametrize(
    "op, options",
    [
        (rotate, Rotate(op="rotate", degrees=0)),
        (translate, Translate(op="translate", share=0)),
        (shear, Shear(op="shear", degrees=0)),
        (lens, Lens(op="lens", strength=0)),
        (elastic, Elastic(op="elastic", share=0)),
    ],
)
def test_a_strength_of_0_changes_nothing(op: Any, options: Any) -> None:
    image = noise(9, 8)
    for unchanged in images(op, image, 2, options):
        np.testing.assert_array_equal(unchanged, image)


@pytest.mark.parametrize("fill", ["constant", "reflect", "nearest"])
def test_pixels_from_outside_have_the_chosen_fill(fill: Any) -> None:
    white = np.full((9, 9, 1), 255, np.uint8)
    for op, options in (
        (rotate, Rotate(op="rotate", degrees=90, fill=fill)),
        (translate, Translate(op="translate", share=0.5, fill=fill)),
        (shear, Shear(op="shear", degrees=45, fill=fill)),
        (lens, Lens(op="lens", strength=0.5, fill=fill)),
    ):
        darkest = images(op, white, 10, options).min()
        assert darkest == 0 if fill == "constant" else darkest > 254.99
