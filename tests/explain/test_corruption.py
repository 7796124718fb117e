"""Guards common corruptions: formulas, order of severities, and random numbers per image."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from cvpipe.explain.corruption import CORRUPTIONS, SEVERITIES, corrupt
from cvpipe.explain.corruption.blur import MOTION, RADII, ZOOMS, disk, line
from cvpipe.explain.corruption.digital import BENDS, BRIGHTER, CONTRASTS, PIXELS, QUALITIES
from cvpipe.explain.corruption.noise import GAUSSIAN, IMPULSES, PHOTONS
from cvpipe.explain.corruption.weather import FOG, FROST, SNOW, plasma

SAME = ("brightness", "contrast", "defocus_blur", "zoom_blur", "pixelate", "jpeg_compression")
"""Corruptions without randomness."""


def photo(size: tuple[int, int] = (64, 48), channels: int = 3, seed: int = 0) -> np.ndarray:
    """Return a smooth image with edges and grain, uint8 [H, W, C]."""
    random = np.random.default_rng(seed)
    soft = ndimage.gaussian_filter(random.random((*size, channels)), (*(0.03 * n for n in size), 0))
    soft = (soft - soft.min()) / np.ptp(soft)
    soft[size[0] // 3 : size[0] // 2, size[1] // 4 : size[1] // 2] *= 0.3
    grain = random.normal(0, 4, soft.shape)
    return np.round(20 + 200 * soft + grain).clip(0, 255).astype(np.uint8)


def changed(kind: str, image: np.ndarray, severity: int, scale: float = 1.0) -> np.ndarray:
    """Return an image, in 0…1, after a corruption and before rounding to pixels."""
    return CORRUPTIONS[kind](image, severity, np.random.default_rng(0), scale)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(a.astype(float) - b.astype(float)))))


def test_there_are_the_papers_15_corruptions() -> None:
    assert len(CORRUPTIONS) == 15 and SEVERITIES == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (28, 28), (61, 40)])
def test_an_image_of_any_size_keeps_its_shape(
    kind: str, channels: int, size: tuple[int, int]
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, channels)).astype(np.uint8)
    before = image.copy()
    for severity in (1, 5):
        found = corrupt(image, kind, severity, (0, 7))
        assert found.dtype == np.uint8 and found.shape == image.shape
    assert (image == before).all()


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_same_seed_gives_the_same_image(kind: str) -> None:
    image = photo()
    first, again, other = (corrupt(image, kind, 3, (0, n)) for n in (4, 4, 5))
    assert (first == again).all()
    assert (first == other).all() == (kind in SAME)


@pytest.mark.parametrize("size", [(28, 28), (128, 96)])
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_severity_is_further_from_the_image(kind: str, size: tuple[int, int]) -> None:
    images = [photo(size, channels, seed) for channels in (1, 3) for seed in range(4)]
    means = [
        np.mean(
            [
                distance(image, corrupt(image, kind, severity, (0, n)))
                for n, image in enumerate(images)
            ]
        )
        for severity in SEVERITIES
    ]
    assert means[0] > 0 and (np.diff(means) > 0).all(), means


def test_gaussian_and_shot_noise_have_their_variance() -> None:
    gray = np.full((200, 200, 1), 0.5)
    for severity in range(5):
        found = changed("gaussian_noise", gray, severity) - gray
        np.testing.assert_allclose(found.std(), GAUSSIAN[severity], rtol=0.02)
        found = changed("shot_noise", gray, severity)
        np.testing.assert_allclose(found.mean(), 0.5, rtol=0.02)
        np.testing.assert_allclose(found.var(), 0.5 / PHOTONS[severity], rtol=0.05)


def test_impulse_noise_replaces_its_share_of_values_and_more_when_stronger() -> None:
    gray, before = np.full((200, 200, 1), 0.5), np.zeros((200, 200, 1), bool)
    for severity in range(5):
        found = changed("impulse_noise", gray, severity)
        struck = found != gray
        np.testing.assert_allclose(struck.mean(), IMPULSES[severity], rtol=0.05)
        np.testing.assert_allclose(found[struck].mean(), 0.5, atol=0.05)
        assert struck[before].all()
        before = struck


def test_defocus_is_the_mean_over_a_disk() -> None:
    image, radius = photo((60, 60)) / 255.0, RADII[1] * 0.5
    ticks = np.linspace(-radius, radius, 41)
    points = [(y, x) for y in ticks for x in ticks if y**2 + x**2 <= radius**2]
    shifted = [ndimage.shift(image, (y, x, 0), order=1, mode="mirror") for y, x in points]
    found = changed("defocus_blur", image, 1, 0.5)
    middle = slice(8, -8)
    off = found - np.mean(shifted, 0)
    assert distance(off[middle, middle], 0 * off[middle, middle]) < 0.05 * distance(found, image)


def test_kernels_are_centered_and_lie_along_their_angle() -> None:
    for kernel in (disk(0.3), disk(7.4), line(10, 4, 30)):
        steps = np.arange(len(kernel)) - len(kernel) // 2
        np.testing.assert_allclose(kernel.sum(), 1)
        np.testing.assert_allclose([steps @ kernel.sum(1), steps @ kernel.sum(0)], 0, atol=1e-12)
    covariance = np.einsum("ij,i,j->", kernel, steps, steps)
    spreads = [kernel.sum(axis) @ steps**2 for axis in (1, 0)]
    angle = np.arctan2(2 * covariance, spreads[1] - spreads[0]) / 2
    np.testing.assert_allclose(np.rad2deg(angle), 30, atol=1)


def test_motion_blur_spreads_a_row_by_the_vertical_extent_of_the_path() -> None:
    image = np.zeros((61, 61, 1))
    image[30] = 1
    found = changed("motion_blur", image, 4, 0.5)
    angle = np.deg2rad(np.random.default_rng(0).uniform(-45, 45))
    along = np.linspace(-1, 1, 1001) * MOTION[4][0] * 0.5
    weights = np.exp(-((along / (MOTION[4][1] * 0.5)) ** 2) / 2)
    expected = (weights @ (along * np.sin(angle)) ** 2) / weights.sum()
    rows = np.arange(61) - 30
    column = found[:, 30, 0] / found[:, 30, 0].sum()
    # Bilinear interpolation between pixels adds a variance of at most a quarter.
    assert 0 <= column @ rows**2 - expected <= 0.26


def test_zoom_blur_of_a_ramp_is_a_flatter_ramp() -> None:
    image = np.broadcast_to(np.linspace(0, 1, 41)[:, np.newaxis, np.newaxis], (41, 31, 1))
    found = changed("zoom_blur", image.copy(), 4)
    flatter = np.mean(1 / np.linspace(1, ZOOMS[4], 11))
    np.testing.assert_allclose(found, 0.5 + (image - 0.5) * flatter, atol=1e-9)


def test_brightness_is_added_in_hsv() -> None:
    image = photo((9, 7)) / 255.0
    image[0, 0] = 0
    found = changed("brightness", image, 3)
    for place in np.ndindex(9, 7):
        hue, saturation, value = colorsys.rgb_to_hsv(*image[place])
        expected = colorsys.hsv_to_rgb(hue, saturation, min(value + BRIGHTER[3], 1))
        np.testing.assert_allclose(found[place], expected, atol=1e-9)


def test_contrast_scales_the_differences_from_the_mean() -> None:
    image = photo() / 255.0
    found = changed("contrast", image, 2)
    np.testing.assert_allclose(found.mean((0, 1)), image.mean((0, 1)))
    np.testing.assert_allclose(found.std((0, 1)), CONTRASTS[2] * image.std((0, 1)))


def test_pixelate_repeats_the_means_of_blocks() -> None:
    assert PIXELS[1] == 0.5
    image = photo((20, 12)) / 255.0
    means = image.reshape(10, 2, 6, 2, 3).mean((1, 3))
    found = changed("pixelate", image, 1)
    np.testing.assert_allclose(found, means.repeat(2, 0).repeat(2, 1), atol=1.1 / 255)


def test_elastic_displacements_have_their_size_and_are_smooth() -> None:
    ramp = np.broadcast_to(np.arange(200.0)[:, np.newaxis, np.newaxis], (200, 200, 1))
    for severity in (0, 4):
        moved = (changed("elastic_transform", ramp.copy(), severity) - ramp)[30:-30, 30:-30, 0]
        np.testing.assert_allclose(moved.std(), BENDS[severity], rtol=0.15)
        assert np.abs(np.diff(moved, axis=1)).max() < moved.std()
    flat = np.full((30, 30, 3), 0.4)
    np.testing.assert_allclose(changed("elastic_transform", flat, 4), flat)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_has_the_quality_that_tensorflows_encoder_gives(channels: int) -> None:
    image = photo(channels=channels)
    for severity in SEVERITIES:
        encoded = tf.io.encode_jpeg(image, quality=QUALITIES[severity - 1])
        theirs = tf.io.decode_jpeg(encoded, dct_method="INTEGER_ACCURATE").numpy()
        ours = corrupt(image, "jpeg_compression", severity, (0, 0))
        assert distance(ours, theirs) < 0.2 * distance(theirs, image)


def test_snow_only_brightens_by_flakes_and_bleaching() -> None:
    image = photo((90, 90)) / 255.0
    black = np.zeros((90, 90, 1))
    before = image
    for severity in range(5):
        found = changed("snow", image, severity)
        assert (found >= before - 1e-9).all()
        before = found
        share, kept = SNOW[severity]
        # On a black image, snow adds a layer of flakes, whose mean is their share, and bleaching
        # adds a gray of 0.5.
        layer = changed("snow", black, severity) - (1 - kept) * 0.5
        assert layer.min() > -1e-9
        np.testing.assert_allclose(layer.mean(), share, rtol=0.35)


def test_frost_and_fog_are_weighted_sums() -> None:
    a, b = photo(seed=1) / 255.0, photo(seed=2) / 255.0
    a[0, 0] = b[0, 0] = 1
    for severity in range(5):
        kept, _ = FROST[severity]
        found = changed("frost", a, severity) - changed("frost", b, severity)
        np.testing.assert_allclose(found, kept * (a - b), atol=1e-9)
        strength, _ = FOG[severity]
        found = changed("fog", a, severity) - changed("fog", b, severity)
        np.testing.assert_allclose(found, (a - b) / (1 + strength), atol=1e-9)


def test_fractal_noise_fills_its_range_and_is_smoother_for_a_larger_decay() -> None:
    steps = []
    for decay in (1.4, 2.0, 3.0):
        noise = plasma((70, 50), decay, np.random.default_rng(3))
        assert noise.shape == (70, 50) and noise.min() == 0 and noise.max() == 1
        steps.append(np.abs(np.diff(noise, axis=0)).mean())
    assert steps[0] > steps[1] > steps[2]
