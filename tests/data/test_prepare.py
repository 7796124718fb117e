"""Guards resizing and normalization, against arithmetic in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config
from cvpipe.config.prepare import Prepare
from cvpipe.data.prepare import (
    input_spec,
    place_boxes,
    prepare,
    prepare_views,
    resize_short_side,
    restore_boxes,
    restore_pixels,
)
from cvpipe.errors import ConfigError
from image_files import noise

RESIZES = ["stretch", "crop", "letterbox"]
SHAPES = [(8, 8), (16, 16), (7, 19), (40, 12), (1, 9), (9, 1), (1, 1), (3, 100)]


def config(**options: Any) -> Prepare:
    return Prepare(**{"size": (8, 10), **options})


def weights(length: int, target: int) -> np.ndarray:
    """Return weights of `length` source pixels for `target` pixels, [target, length].

    The filter is a triangle whose half width is the larger of a source and a target pixel.
    """
    scale = length / target
    reach = max(1.0, scale)
    centers = (np.arange(target) + 0.5) * scale
    triangle = np.maximum(0, 1 - abs(np.arange(length) + 0.5 - centers[:, None]) / reach)
    return triangle / triangle.sum(1, keepdims=True)


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.einsum(
        "yh,hwc,xw->yxc",
        weights(image.shape[0], size[0]),
        image.astype(float),
        weights(image.shape[1], size[1]),
    )


def middle(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the largest centered crop of an image with the aspect ratio of `size`."""
    height, width = image.shape[:2]
    height, width = (
        max(min(height, width * size[0] // size[1]), 1),
        max(min(width, height * size[1] // size[0]), 1),
    )
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def shown(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return top, left, height, width of an image in its letterbox."""
    scale = min(size[0] / shape[0], size[1] / shape[1])
    height, width = (max(math.floor(length * scale + 0.5 + 1e-9), 1) for length in shape[:2])
    return (size[0] - height) // 2, (size[1] - width) // 2, height, width


def letterboxed(image: np.ndarray, size: tuple[int, int], fill: float) -> np.ndarray:
    top, left, height, width = shown(image.shape, size)
    box = np.full([*size, image.shape[-1]], fill)
    box[top : top + height, left : left + width] = resized(image, (height, width))
    return box


def in_map(image: np.ndarray, options: Prepare) -> np.ndarray:
    """Prepare an image inside a Dataset, with an unknown size as after decoding."""
    unknown = tf.TensorSpec([None, None, image.shape[-1]], image.dtype)
    images = tf.data.Dataset.from_generator(lambda: iter([image]), output_signature=unknown)
    [prepared] = images.map(lambda pixels: prepare(pixels, options)).as_numpy_iterator()
    return prepared


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("resize", RESIZES)
def test_resized_pixels_are_weighted_means_of_source_pixels(
    resize: str, shape: tuple[int, int]
) -> None:
    image, options = noise(*shape), config(resize=resize)
    fitted = {"stretch": image, "crop": middle(image, options.size)}.get(resize)
    expected = (
        letterboxed(image, options.size, 127.5) if fitted is None else resized(fitted, options.size)
    )
    np.testing.assert_allclose(prepare(image, options), expected / 255 * 2 - 1, atol=1e-5)


def test_a_crop_shows_the_middle() -> None:
    image = np.zeros((10, 30, 1), np.uint8)
    image[:, 10:20] = 255
    options = config(size=(10, 10), resize="crop", channels=1)
    np.testing.assert_array_equal(prepare(image, options), np.ones([10, 10, 1]))
    np.testing.assert_array_equal(prepare(image.transpose(1, 0, 2), options), np.ones([10, 10, 1]))


@pytest.mark.parametrize(
    "options, gray",
    [({}, 0.5), ({"mean": (0.2,), "std": (0.3,)}, 0.2), ({"normalize": "channels"}, 0.5)],
)
def test_a_letterbox_shows_everything_between_bars_of_the_mean(
    options: dict[str, Any], gray: float
) -> None:
    box = config(size=(10, 10), resize="letterbox", **options)
    white = (
        prepare(np.full((10, 30, 3), 255, np.uint8), box).numpy() * box.scaling[1][0]
        + box.scaling[0][0]
    )
    np.testing.assert_allclose(white[3:6], 1, atol=1e-6)
    np.testing.assert_allclose(np.delete(white, [3, 4, 5], 0), gray, atol=1e-6)


def test_a_letterbox_is_filled_with_the_mean_of_each_channel() -> None:
    box = config(size=(4, 8), resize="letterbox", mean=(0.1, 0.2, 0.3), std=(1.0,))
    np.testing.assert_allclose(prepare(noise(4, 4), box)[:, :2], np.zeros([4, 2, 3]), atol=1e-6)


def test_a_very_long_image_is_cropped_without_overflow() -> None:
    # 10 million × 250 exceeds int32.
    image = np.zeros((1, 10_000_000, 1), np.uint8)
    image[:, 5_000_000 - 2 : 5_000_000 + 2] = 255
    np.testing.assert_array_equal(
        prepare(image, config(size=(250, 250), resize="crop", channels=1))[0, 0], [1]
    )


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_the_right_size_are_only_normalized(resize: str, channels: int) -> None:
    image, options = (
        noise(8, 10, channels),
        config(resize=resize, channels=channels, mean=(0.4,), std=(0.3,)),
    )
    np.testing.assert_allclose(prepare(image, options), (image / 255 - 0.4) / 0.3, atol=1e-6)


def test_each_channel_is_normalized_by_its_mean_and_std() -> None:
    image, options = noise(8, 10), config(mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    np.testing.assert_allclose(
        prepare(image, options), (image / 255 - [0.1, 0.2, 0.3]) / [0.5, 1, 2], atol=1e-6
    )


@pytest.mark.parametrize("shape", [(8, 10), (16, 16), (5, 7), (1, 9)])
@pytest.mark.parametrize("resize", RESIZES)
def test_known_and_unknown_sizes_and_integers_and_floats_give_the_same_bits(
    resize: str, shape: tuple[int, int]
) -> None:
    image, options = noise(*shape), config(resize=resize)
    expected = prepare(image, options).numpy().tobytes()
    assert prepare(image.astype(np.float32), options).numpy().tobytes() == expected
    assert in_map(image, options).tobytes() == expected
    assert in_map(image.astype(np.float32), options).tobytes() == expected


@pytest.mark.parametrize("resize", RESIZES)
def test_the_shape_is_fixed_inside_a_graph(resize: str) -> None:
    images = tf.data.Dataset.from_generator(
        lambda: iter([]), output_signature=tf.TensorSpec([None, None, 3], tf.uint8)
    )
    images = images.map(lambda image: prepare(image, config(resize=resize)))
    assert images.element_spec == tf.TensorSpec([8, 10, 3], tf.float32)


@pytest.mark.parametrize(
    "mean, std",
    [
        ((0.5,), (0.5,)),
        ((0.286,), (0.353,)),
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ((0.0,), (1.0,)),
    ],
)
def test_restored_pixels_equal_the_original_pixels(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    every_value = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3, -1)
    options = config(size=(16, 16), mean=mean, std=std)
    restored = restore_pixels(prepare(every_value, options)[tf.newaxis], options)
    assert restored.dtype == tf.uint8
    np.testing.assert_array_equal(restored[0], every_value)


def test_restored_pixels_stay_in_range() -> None:
    beyond = tf.constant([[[-9.0], [9.0]]])
    np.testing.assert_array_equal(restore_pixels(beyond, config(channels=1)), [[[0], [255]]])


# -- boxes

EXTENTS = [*SHAPES, (1, 5_000), (5_000, 1), (480, 640), (10_000_000, 1)]


@pytest.mark.parametrize("shape", EXTENTS)
@pytest.mark.parametrize("resize", RESIZES)
def test_restored_boxes_equal_the_original_boxes(resize: str, shape: tuple[int, int]) -> None:
    corners = (
        np.sort(np.random.default_rng(0).uniform(0, 1, (50, 2, 2)), 1)
        .reshape(50, 4)
        .astype(np.float32)
    )
    options = config(resize=resize, size=(30, 40))
    placed = place_boxes(corners, shape, options)
    restored = restore_boxes(placed, shape, options)
    # The tolerance is a hundredth of a pixel, or float32's precision in images so long that this
    # is coarser.
    assert (abs(restored - corners) * np.tile(shape, 2)).numpy().max() <= max(
        0.01, max(shape) * 1e-6
    )
    if resize == "letterbox":
        assert placed.numpy().min() >= 0 and placed.numpy().max() <= 1 + 1e-6


@pytest.mark.parametrize("shape", [(60, 80), (40, 100), (100, 40), (41, 97)])
@pytest.mark.parametrize("resize", RESIZES)
def test_a_box_is_placed_where_its_pixels_are(resize: str, shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 1), np.uint8)
    top, left, bottom, right = (
        round(share * length) for share, length in zip((0.4, 0.35, 0.6, 0.7), 2 * shape)
    )
    image[top:bottom, left:right] = 255
    options = config(resize=resize, size=(48, 64), channels=1)
    box = np.array([[top, left, bottom, right]], np.float32) / np.tile(shape, 2)
    expected = place_boxes(box.astype(np.float32), shape, options).numpy()[0] * [48, 64, 48, 64]
    rows, columns, _ = np.nonzero(prepare(image, options).numpy() > 0.5)
    found = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    np.testing.assert_allclose(found, np.clip(expected, 0, [48, 64, 48, 64]), atol=1)


@pytest.mark.parametrize("resize", RESIZES)
def test_boxes_of_a_batch_are_placed_as_those_of_single_images(resize: str) -> None:
    options, extents = config(resize=resize), np.array([(20, 30), (7, 3), (8, 10)])
    boxes = np.random.default_rng(0).uniform(0, 1, (3, 5, 4)).astype(np.float32)
    for function in (place_boxes, restore_boxes):
        together = tf.function(function)(boxes, tf.constant(extents), options)
        for one, extent, batched in zip(boxes, extents, together):
            np.testing.assert_allclose(function(one, extent, options), batched, rtol=1e-6)


# -- views


def views_of(image: np.ndarray, views: str, *sides: int) -> np.ndarray:
    options = small_config(
        "prepare.size=[8, 10]",
        "prepare.channels=3",
        f"test_time={{views: {views}, sides: {list(sides)}}}",
    )
    seen = prepare_views(tf.constant(image), options).numpy()
    assert seen.shape == tuple(input_spec(options).shape[1:])
    return seen


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (7, 7), (100, 3), (1, 1)])
def test_the_short_side_gets_its_length_and_the_aspect_stays(shape: tuple[int, int]) -> None:
    height, width = resize_short_side(noise(*shape), 12).shape[:2]
    assert min(height, width) == 12
    assert abs(height / width - shape[0] / shape[1]) <= 0.5 * shape[0] / shape[1] / 12


def test_ten_views_are_the_middle_the_corners_and_their_mirror_images() -> None:
    image = noise(16, 21)
    pixels = image / 255 * 2 - 1
    places = [((16 - 8) // 2, (21 - 10) // 2), (0, 0), (0, 11), (8, 0), (8, 11)]
    crops = [pixels[top : top + 8, left : left + 10] for top, left in places]
    np.testing.assert_allclose(
        views_of(image, "ten", 16), crops + [crop[:, ::-1] for crop in crops], atol=1e-6
    )


def test_mirrored_views_are_the_prepared_image_and_its_mirror_image() -> None:
    image = np.random.default_rng(5).integers(0, 256, (13, 11, 3), np.uint8)
    one, both = views_of(image, "one", 16), views_of(image, "mirrored", 16)
    np.testing.assert_array_equal(both, [one, one[:, ::-1]])


def test_every_side_gives_different_views() -> None:
    image = noise(30, 40)
    many = views_of(image, "ten", 10, 16)
    assert many.shape[0] == 20
    np.testing.assert_array_equal(many[10:], views_of(image, "ten", 16))


def test_one_center_view_is_an_image_without_views() -> None:
    image = noise(16, 20)
    np.testing.assert_allclose(
        views_of(image, "center", 16), image[4:12, 5:15] / 255 * 2 - 1, atol=1e-6
    )
    assert views_of(image, "center", 16, 20).shape == (2, 8, 10, 3)


def test_views_must_be_at_least_as_large_as_the_input() -> None:
    with pytest.raises(
        ConfigError,
        match="test_time.sides must be lengths of at least 10, the longer side of prepare.size",
    ):
        small_config("prepare.size=[8, 10]", "test_time={views: ten, sides: [9]}")
