"""Guards color jitter, lighting and grayscale: they equal the same arithmetic in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

from cvpipe.config.augment.color import ColorJitter, Grayscale, PcaLighting
from cvpipe.data.augment.color import color_jitter, grayscale, pca_lighting

# The weights of ITU-R BT.601.
LUMA = np.array([0.2989, 0.587, 0.114])
ALL = {"brightness": 0.4, "contrast": 0.5, "saturation": 0.6, "hue": 0.2}


def noise(channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 8, channels), dtype=np.uint8)


def jitter(**strengths: float) -> ColorJitter:
    return ColorJitter(op="color_jitter", **strengths)


def seed(number: Any) -> tf.Tensor:
    return tf.stack([tf.cast(number, tf.int64), tf.constant(5, tf.int64)])


def in_map(image: np.ndarray, op: ColorJitter, count: int) -> list[np.ndarray]:
    """Return the image changed with each of the seeds 0 … count − 1."""
    data = tf.data.Dataset.range(count).map(
        lambda number: color_jitter({"image": tf.constant(image)}, seed(number), op)["image"]
    )
    return list(data.as_numpy_iterator())


def reference(image: np.ndarray, op: ColorJitter, number: int) -> np.ndarray:
    """Change brightness, contrast, saturation and hue in this order, with the same draws."""
    brightness, contrast, saturation, hue = (
        tf.random.stateless_uniform([4], seed(number), -1, 1).numpy().astype(float)
    )
    pixels = np.clip(image / 255 * (1 + op.brightness * brightness), 0, 1)

    def gray() -> np.ndarray:
        return (pixels @ LUMA)[..., None] if image.shape[-1] == 3 else pixels

    mean = gray().mean()
    pixels = np.clip(mean + (pixels - mean) * (1 + op.contrast * contrast), 0, 1)
    if image.shape[-1] == 3:
        pixels = np.clip(gray() + (pixels - gray()) * (1 + op.saturation * saturation), 0, 1)
        hsv = rgb_to_hsv(pixels)
        hsv[..., 0] = (hsv[..., 0] + op.hue * hue) % 1
        pixels = hsv_to_rgb(hsv)
    return pixels * 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*ALL, "all"])
def test_each_change_follows_its_formula(name: str, channels: int) -> None:
    op = jitter(**(ALL if name == "all" else {name: ALL[name]}))
    image = noise(channels)
    for number, changed in enumerate(in_map(image, op, 8)):
        assert changed.dtype == np.float32
        np.testing.assert_allclose(changed, reference(image, op, number), atol=0.05)
        np.testing.assert_allclose(
            color_jitter({"image": tf.constant(image)}, seed(number), op)["image"],
            changed,
            atol=1e-3,
        )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_strength_of_0_changes_nothing(channels: int) -> None:
    for changed in in_map(noise(channels), jitter(), 3):
        np.testing.assert_allclose(changed, noise(channels), atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_stay_within_bounds_at_full_strength(channels: int) -> None:
    changed = np.stack(
        in_map(noise(channels), jitter(brightness=1, contrast=1, saturation=1, hue=0.5), 50)
    )
    assert changed.min() >= 0 and changed.max() <= 255
    assert changed.max() > 250, "nothing gets brighter"


@pytest.mark.parametrize("strengths", [{"saturation": 1}, {"hue": 0.5}])
def test_changes_of_color_leave_a_gray_image_unchanged(strengths: dict[str, float]) -> None:
    # Also for a gray image in three channels, which has no saturation or hue to change.
    for image in (noise(1), np.repeat(noise(1), 3, -1)):
        for changed in in_map(image, jitter(**strengths), 3):
            np.testing.assert_allclose(changed, image, atol=0.05)


def test_floats_and_integers_of_the_same_pixels_change_equally() -> None:
    op = jitter(**ALL)
    assert (
        in_map(noise(3), op, 1)[0].tobytes()
        == in_map(noise(3).astype(np.float32), op, 1)[0].tobytes()
    )


def test_the_same_seed_gives_the_same_bits_and_another_seed_different_bits() -> None:
    op = jitter(**ALL)
    first, again = (in_map(noise(3), op, 20) for _ in range(2))
    assert [one.tobytes() for one in first] == [one.tobytes() for one in again]
    assert len({one.tobytes() for one in first}) == 20


def test_factors_are_spread_over_their_whole_range() -> None:
    gray = np.full((2, 2, 1), 100, np.uint8)
    factors = np.array(
        [changed[0, 0, 0] / 100 for changed in in_map(gray, jitter(brightness=0.5), 300)]
    )
    assert 0.5 <= factors.min() < 0.53 and 1.47 < factors.max() <= 1.5
    assert abs(factors.mean() - 1) < 4 * 0.5 / np.sqrt(3 * 300)


def test_labels_do_not_change() -> None:
    example = {"image": tf.constant(noise(3)), "label": tf.constant(3)}
    changed = color_jitter(example, seed(0), jitter(**ALL))
    assert changed.keys() == example.keys() and changed["label"] is example["label"]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_grayscale_is_luma_in_every_channel(dtype: Any) -> None:
    image = noise(3).astype(dtype)
    gray = grayscale(
        {"image": tf.constant(image)}, seed(0), Grayscale(op="grayscale", probability=1)
    )["image"].numpy()
    assert gray.dtype == dtype
    np.testing.assert_allclose(
        gray, np.repeat((image @ LUMA)[..., None], 3, -1), atol=0.51 if dtype == np.uint8 else 1e-3
    )
    np.testing.assert_allclose(tf.image.rgb_to_grayscale(image), gray[..., :1], atol=1)


@pytest.mark.parametrize("probability", [0.0, 0.2, 1.0])
def test_grayscale_is_as_frequent_as_its_probability(probability: float) -> None:
    op = Grayscale(op="grayscale", probability=probability)
    data = tf.data.Dataset.range(500).map(
        lambda number: grayscale({"image": tf.constant(noise(3))}, seed(number), op)["image"]
    )
    taken = sum((image != noise(3)).any() for image in data.as_numpy_iterator())
    assert abs(taken - probability * 500) <= 4 * np.sqrt(500 * probability * (1 - probability))


def test_grayscale_returns_a_gray_image_unchanged() -> None:
    image = tf.constant(noise(1))
    assert (
        grayscale({"image": image}, seed(0), Grayscale(op="grayscale", probability=1))["image"]
        is image
    )


# Eigenvalues aren't sorted, and eigenvectors aren't axes, so that a wrong transpose shows.
EIGENVALUES = np.array([0.2, 0.01, 0.05])
EIGENVECTORS = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]


def lit(
    image: np.ndarray,
    op: PcaLighting,
    count: int,
    eigenvalues: np.ndarray,
    eigenvectors: np.ndarray,
) -> np.ndarray:
    def one(number: tf.Tensor) -> tf.Tensor:
        return pca_lighting(
            {"image": tf.constant(image)}, seed(number), op, eigenvalues, eigenvectors
        )["image"]

    return np.stack(list(tf.data.Dataset.range(count).map(one).as_numpy_iterator()))


def test_lighting_shifts_all_pixels_equally_along_the_principal_components() -> None:
    gray = np.full((3, 2, 3), 128, np.uint8)
    change = (
        lit(gray, PcaLighting(op="pca_lighting", std=0.5), 1000, EIGENVALUES, EIGENVECTORS) / 255
        - 128 / 255
    )
    assert np.ptp(change, axis=(1, 2)).max() < 1e-6
    # Along the components, changes are independent, with standard deviations of std × eigenvalue.
    along = change[:, 0, 0] @ EIGENVECTORS
    np.testing.assert_allclose(along.std(0), 0.5 * EIGENVALUES, rtol=4 / np.sqrt(2 * 1000))
    assert (abs(along.mean(0)) < 4 * 0.5 * EIGENVALUES / np.sqrt(1000)).all()
    assert abs(np.corrcoef(along.T) - np.eye(3)).max() < 4 / np.sqrt(1000)


def test_lighting_of_a_gray_image_is_brightness() -> None:
    change = (
        lit(
            np.full((2, 2, 1), 128, np.uint8),
            PcaLighting(op="pca_lighting"),
            1000,
            np.array([0.1]),
            np.array([[-1.0]]),
        )
        - 128
    )
    np.testing.assert_allclose(change.std() / 255, 0.1 * 0.1, rtol=4 / np.sqrt(2 * 1000))


def test_lighting_keeps_pixels_within_bounds_and_does_nothing_if_std_is_0() -> None:
    strong = lit(noise(3), PcaLighting(op="pca_lighting", std=20), 20, EIGENVALUES, EIGENVECTORS)
    assert strong.dtype == np.float32 and strong.min() == 0 and strong.max() == 255
    np.testing.assert_array_equal(
        lit(noise(3), PcaLighting(op="pca_lighting", std=0), 1, EIGENVALUES, EIGENVECTORS)[0],
        noise(3),
    )
