"""Guards erasing: size, place, frequency and fill of the rectangles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from cvpipe.config.augment.color import Cutout, Erase
from cvpipe.data.augment.erase import cutout, erase

WHITE = np.full((40, 60, 1), 255, np.uint8)


def section(**keys: Any) -> Erase:
    return Erase(op="erase", **{"probability": 1.0, "fill": "zeros", **keys})


def seed(number: Any) -> tf.Tensor:
    return tf.stack([tf.cast(number, tf.int64), tf.constant(5, tf.int64)])


def images(op: Any, image: np.ndarray, count: int, config: Any) -> np.ndarray:
    """Return the image changed with each of the seeds 0 … count − 1."""
    data = tf.data.Dataset.range(count).map(
        lambda number: op({"image": tf.constant(image)}, seed(number), config)["image"]
    )
    return np.stack(list(data.as_numpy_iterator()))


def rectangles(covered: np.ndarray) -> np.ndarray:
    """Top, left, height, width of the True pixels, which must form a rectangle: bool [N, H, W] to
    int [N, 4].
    """
    rows, columns = covered.any(2), covered.any(1)
    np.testing.assert_array_equal(covered, rows[:, :, None] & columns[:, None, :])
    return np.stack([rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)], -1)


def test_areas_keep_to_their_bounds_and_are_spread_evenly() -> None:
    top, left, height, width = rectangles(
        images(erase, WHITE, 500, section(area=(0.1, 0.9)))[..., 0] == 0
    ).T
    # Up to half a pixel per side.
    assert ((height + 0.5) * (width + 0.5) >= 0.1 * 2400).all() and (
        (height - 0.5) * (width - 0.5) <= 0.9 * 2400
    ).all()
    assert stats.kstest(height * width / 2400, stats.uniform(0.1, 0.8).cdf).pvalue > 1e-3
    assert (
        top.min() == left.min() == 0 and (top + height).max() == 40 and (left + width).max() == 60
    )


def test_aspects_keep_to_their_bounds_and_are_spread_evenly_on_a_logarithmic_scale() -> None:
    *_, height, width = rectangles(
        images(erase, WHITE, 500, section(area=(0.1, 0.2), aspect=(0.5, 2.0)))[..., 0] == 0
    ).T
    assert ((width - 0.5) / (height + 0.5) <= 2).all() and (
        (width + 0.5) / (height - 0.5) >= 0.5
    ).all()
    share = np.log(width / height) / np.log(4) + 0.5
    assert abs(share.mean() - 1 / 2) < 4 * np.sqrt(1 / 12 / 500)
    assert abs(share.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / 500)


def test_if_no_aspect_fits_the_area_is_kept() -> None:
    wide = rectangles(
        images(erase, WHITE, 5, section(area=(0.5, 0.5), aspect=(10.0, 10.0)))[..., 0] == 0
    )
    assert (wide[:, 2:] == [20, 60]).all()
    high = rectangles(
        images(erase, WHITE, 5, section(area=(0.5, 0.5), aspect=(0.1, 0.1)))[..., 0] == 0
    )
    assert (high[:, 2:] == [40, 30]).all()


def test_all_places_are_equally_frequent() -> None:
    # Nine sixteenths of 4 × 4 are 3 × 3, at one of four places.
    found = rectangles(
        images(erase, WHITE[:4, :4], 400, section(area=(9 / 16, 9 / 16), aspect=(1.0, 1.0)))[..., 0]
        == 0
    )
    assert (found[:, 2:] == 3).all()
    counts = np.bincount(found[:, 0] * 2 + found[:, 1])
    assert len(counts) == 4 and abs(counts - 100).max() < 4 * np.sqrt(100 * 3 / 4)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_erasing_is_as_frequent_as_its_probability(probability: float) -> None:
    covered = (
        (images(erase, WHITE[:4, :4], 500, section(probability=probability)) == 0)
        .any((1, 2, 3))
        .sum()
    )
    assert abs(covered - probability * 500) <= 4 * np.sqrt(500 * probability * (1 - probability))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_cover_has_the_chosen_fill_and_the_rest_stays(dtype: Any, channels: int) -> None:
    image = np.random.default_rng(0).integers(1, 256, (12, 10, channels)).astype(dtype)
    black, mean, random = (
        images(erase, image, 20, section(fill=fill)) for fill in ("zeros", "mean", "noise")
    )
    covered = (black == 0).all(-1)
    expected = image.mean((0, 1), dtype=np.float64)
    assert black.dtype == mean.dtype == random.dtype == dtype
    assert covered.any((1, 2)).all()
    np.testing.assert_array_equal(black[covered], 0)
    np.testing.assert_allclose(
        mean[covered],
        np.broadcast_to(expected, mean[covered].shape),
        atol=0.5 if dtype == np.uint8 else 1e-3,
    )
    for erased in (black, mean, random):
        np.testing.assert_array_equal(
            erased[~covered], np.broadcast_to(image, erased.shape)[~covered]
        )


def test_noise_has_all_pixel_values_and_differs_between_images() -> None:
    erased = images(
        erase, np.zeros((50, 50, 3), np.uint8), 8, section(area=(1.0, 1.0), fill="noise")
    )
    # Each value occurs 234 times on average.
    counts = np.bincount(erased.ravel(), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert abs(np.corrcoef(erased.reshape(8, -1)) - np.eye(8)).max() < 5 / np.sqrt(7500)
    assert abs(np.corrcoef(erased.reshape(-1, 3).T) - np.eye(3)).max() < 5 / np.sqrt(20000)


def test_floats_and_integers_of_the_same_pixels_are_covered_equally() -> None:
    for fill in ("zeros", "noise"):
        one, two = (
            images(erase, WHITE.astype(dtype), 3, section(fill=fill))
            for dtype in (np.uint8, np.float32)
        )
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    "shape, size, side", [((6, 6), 0.5, 3), ((5, 8), 0.4, 2), ((4, 4), 1.0, 4), ((1, 7), 1.0, 1)]
)
def test_cutouts_are_squares_equally_often_around_each_pixel_and_clipped_at_the_edge(
    shape: tuple[int, int], size: float, side: int
) -> None:
    image = np.random.default_rng(0).choice([0, 255], (*shape, 1)).astype(np.float32)
    cut = images(cutout, image, 600, Cutout(op="cutout", size=size))[..., 0]
    windows = []
    for row, column in np.ndindex(*shape):
        window = np.zeros(shape, bool)
        window[
            max(row - side // 2, 0) : row - side // 2 + side,
            max(column - side // 2, 0) : column - side // 2 + side,
        ] = True
        windows.append(window)
    matches = ((cut != image[..., 0])[:, None] == windows).all((2, 3))
    assert matches.any(1).all(), "the cover is no clipped square"
    # Squares that look the same because they are clipped share their counts.
    alike = (np.array(windows)[:, None] == windows).all((2, 3)).sum(1)
    expected = 600 / len(windows) * alike
    assert (abs(matches.sum(0) - expected) < 4.5 * np.sqrt(expected)).all()
    np.testing.assert_allclose(cut[cut != image[..., 0]], image.mean(), atol=1e-3)


def test_a_cutout_of_size_0_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    for cut in images(cutout, image, 5, Cutout(op="cutout", size=0.0)):
        np.testing.assert_array_equal(cut, image)
