"""Guards warped pixels, against SciPy's interpolation."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import map_coordinates

from cvpipe.config.augment.augmentation import Fill
from cvpipe.geometry.warp import rotation, sample, shearing, translation, warp

# SciPy's names for cvpipe's modes of filling pixels outside the image.
MODES = {"constant": "grid-constant", "reflect": "reflect", "nearest": "nearest"}
TRANSFORMS = {
    "turned": rotation(0.7, 9, 7),
    "moved": translation(3.3, -2.2),
    "slanted": shearing(0.4, 9, 7),
    "far outside": translation(30.3, -22.7),
    "in perspective": tf.constant([1.1, 0.2, -1.0, -0.1, 0.9, 0.5, 0.03, 0.02]),
}
FILLS = ["constant", "reflect", "nearest"]


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def places(transform: tf.Tensor, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of the input that the output's pixels show."""
    a0, a1, a2, b0, b1, b2, c0, c1 = np.array(transform, np.float64)
    y, x = np.mgrid[:height, :width]
    k = c0 * x + c1 * y + 1
    return (b0 * x + b1 * y + b2) / k, (a0 * x + a1 * y + a2) / k


def reference(
    image: np.ndarray, y: np.ndarray, x: np.ndarray, fill: str, value: float = 0
) -> np.ndarray:
    channels = np.moveaxis(image.astype(float), -1, 0)
    return np.stack(
        [
            map_coordinates(channel, [y, x], order=1, mode=MODES[fill], cval=value)
            for channel in channels
        ],
        -1,
    )


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_bilinear_sampling_equals_scipys(name: str, fill: Fill) -> None:
    for image in (noise(9, 7), noise(9, 7, 1).astype(np.float32)):
        y, x = places(TRANSFORMS[name], 9, 7)
        expected = reference(image, y, x, fill, 40)
        warped = warp(tf.constant(image), TRANSFORMS[name], fill, 40)
        sampled = sample(
            tf.constant(image), tf.constant(y, tf.float32), tf.constant(x, tf.float32), fill, 40
        )
        assert warped.dtype == sampled.dtype == tf.float32
        np.testing.assert_allclose(warped, expected, atol=2e-3)
        np.testing.assert_allclose(sampled, expected, atol=2e-3)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_nearest_sampling_equals_scipys_and_keeps_the_dtype(name: str, fill: Fill) -> None:
    image = noise(9, 7)
    y, x = places(TRANSFORMS[name], 9, 7)
    expected = np.stack(
        [
            map_coordinates(image[..., n], [y, x], order=0, mode=MODES[fill], cval=40)
            for n in range(3)
        ],
        -1,
    )
    warped = warp(tf.constant(image), TRANSFORMS[name], fill, 40, "nearest")
    sampled = sample(
        tf.constant(image),
        tf.constant(y, tf.float32),
        tf.constant(x, tf.float32),
        fill,
        40,
        "nearest",
    )
    # Halfway between two pixels, either one may be taken as nearest.
    is_clear = (np.abs(y % 1 - 0.5) > 1e-4) & (np.abs(x % 1 - 0.5) > 1e-4)
    for given in (warped, sampled):
        assert given.dtype == tf.uint8
        np.testing.assert_array_equal(given.numpy()[is_clear], expected[is_clear])


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1)])
def test_thin_images_are_interpolated_too(shape: tuple[int, int], fill: Fill) -> None:
    image = noise(*shape)
    transform = translation(0.4, -1.3)
    y, x = places(transform, *shape)
    np.testing.assert_allclose(
        warp(tf.constant(image), transform, fill), reference(image, y, x, fill), atol=1e-3
    )
    np.testing.assert_allclose(
        sample(tf.constant(image), y.astype("f"), x.astype("f"), fill),
        reference(image, y, x, fill),
        atol=1e-3,
    )


def test_sampled_points_may_have_another_shape_than_the_image() -> None:
    image, (y, x) = (
        noise(5, 4),
        np.random.default_rng(1).uniform(-3, 8, (2, 3, 11)).astype(np.float32),
    )
    np.testing.assert_allclose(
        sample(tf.constant(image), y, x, "reflect"), reference(image, y, x, "reflect"), atol=1e-3
    )


@pytest.mark.parametrize("transform", [rotation(0.0, 9, 7), translation(0, 0), shearing(0.0, 9, 7)])
def test_the_identity_changes_no_pixel(transform: tf.Tensor) -> None:
    for fill in FILLS:
        np.testing.assert_array_equal(warp(tf.constant(noise(9, 7)), transform, fill), noise(9, 7))


@pytest.mark.parametrize("down, right", [(2, 1), (-1, 3), (0, -2), (9, 0)])
def test_a_translation_by_whole_pixels_only_shifts_the_image(down: int, right: int) -> None:
    image = noise(6, 5)
    padded = np.pad(image, [(9, 9), (9, 9), (0, 0)])
    expected = padded[9 - down : 15 - down, 9 - right : 14 - right]
    np.testing.assert_array_equal(
        warp(tf.constant(image), translation(down, right), "constant"), expected
    )


@pytest.mark.parametrize("side", [5, 6])
def test_a_rotation_by_90_degrees_is_counterclockwise(side: int) -> None:
    image = noise(side, side)
    np.testing.assert_allclose(
        warp(tf.constant(image), rotation(np.pi / 2, side, side), "nearest"),
        np.rot90(image),
        atol=1e-3,
    )


def test_half_a_turn_keeps_the_center_of_any_image() -> None:
    image = noise(6, 5)
    np.testing.assert_allclose(
        warp(tf.constant(image), rotation(np.pi, 6, 5), "nearest"), image[::-1, ::-1], atol=1e-3
    )


def test_a_shear_of_45_degrees_moves_each_line_a_pixel_more() -> None:
    image = noise(5, 5)
    slanted = warp(tf.constant(image), shearing(np.pi / 4, 5, 5), "constant").numpy()
    for row, moved in enumerate(range(2, -3, -1)):
        expected = np.pad(image[row], [(4, 4), (0, 0)])[4 - moved : 9 - moved]
        np.testing.assert_allclose(slanted[row], expected, atol=1e-3)


def test_known_shapes_stay_known_and_unknown_shapes_work() -> None:
    known = tf.data.Dataset.from_tensors(noise(6, 5)).map(
        lambda image: warp(image, translation(1, 0), "nearest")
    )
    assert known.element_spec.shape == [6, 5, 3]

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    def unknown(image: tf.Tensor) -> tf.Tensor:
        return warp(image, translation(1, 0), "nearest")

    np.testing.assert_array_equal(unknown(noise(6, 5)), next(known.as_numpy_iterator()))
