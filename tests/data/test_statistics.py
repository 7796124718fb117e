"""Guards statistics of a training set, against NumPy on all images at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cvpipe.config.prepare import Prepare
from cvpipe.data.statistics import color_components, evenly_spaced, normalization

SIZE = (4, 5)


@pytest.fixture
def images() -> np.ndarray:
    """Return images with correlated pixels, as in photos: float32 [200, 4, 5, 3]."""
    random = np.random.default_rng(0)
    independent, common = random.random((200, 60)), random.random((200, 1))
    return ((independent + common) / 2).reshape(200, *SIZE, 3).astype(np.float32)


def config(normalize: str, **options: Any) -> Prepare:
    return Prepare(size=SIZE, normalize=normalize, **options)


def batches(images: np.ndarray, size: int) -> list[np.ndarray]:
    return [images[n : n + size] for n in range(0, len(images), size)]


def whitened(images: np.ndarray, found: dict[str, np.ndarray]) -> np.ndarray:
    return (images - found["mean"]).reshape(len(images), -1) @ found["matrix"]


def test_each_channel_has_a_mean_and_a_standard_deviation(images: np.ndarray) -> None:
    found = normalization(batches(images, 64), config("channels"))
    np.testing.assert_allclose(found["mean"], images.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found["scale"], 1 / images.std((0, 1, 2)), rtol=1e-5)


def test_a_channel_that_never_changes_is_not_divided_by_zero(images: np.ndarray) -> None:
    images[..., 1] = 0.5
    found = normalization([images], config("channels"))
    np.testing.assert_allclose(
        (images[..., 1] - found["mean"][1]) * found["scale"][1], 0, atol=1e-6
    )


def test_the_mean_image_is_the_mean_of_all_images(images: np.ndarray) -> None:
    np.testing.assert_allclose(
        normalization(batches(images, 7), config("image"))["mean"], images.mean(0), rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["pca", "zca"])
def test_whitening_leaves_uncorrelated_values_of_variance_one(
    images: np.ndarray, kind: str
) -> None:
    found = normalization([images], config(kind, whitening_epsilon=1e-9))
    covariance = np.cov(whitened(images, found), rowvar=False, bias=True)
    np.testing.assert_allclose(covariance, np.eye(60), atol=2e-2)


def test_epsilon_limits_the_scale_of_components_that_hardly_vary(images: np.ndarray) -> None:
    variances = np.sort(
        np.linalg.eigvalsh(np.cov(images.reshape(200, -1), rowvar=False, bias=True))
    )[::-1]
    found = normalization([images], config("pca", whitening_epsilon=0.01))
    np.testing.assert_allclose(
        whitened(images, found).var(0), variances / (variances + 0.01), rtol=1e-2, atol=1e-4
    )


def test_the_matrix_of_zca_is_symmetric_and_positive_definite(images: np.ndarray) -> None:
    matrix = normalization([images], config("zca"))["matrix"]
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-5)
    assert (np.linalg.eigvalsh(matrix.astype(np.float64)) > 0).all()


@pytest.mark.parametrize("kind", ["channels", "image", "pca", "zca"])
def test_statistics_do_not_depend_on_the_division_into_batches(
    images: np.ndarray, kind: str
) -> None:
    whole, parts = (normalization(batches(images, size), config(kind)) for size in (200, 33))
    for name, value in whole.items():
        np.testing.assert_allclose(abs(parts[name]), abs(value), rtol=1e-3, atol=1e-3)


def test_color_components_are_those_of_the_covariance_matrix(images: np.ndarray) -> None:
    values, vectors = color_components(batches(images, 50))
    covariance = np.cov(images.reshape(-1, 3), rowvar=False, bias=True)
    np.testing.assert_allclose(
        vectors @ np.diag(values) @ vectors.T, covariance, rtol=1e-4, atol=1e-7
    )
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-6)


def test_evenly_spaced_positions_include_the_first_and_the_last() -> None:
    np.testing.assert_array_equal(evenly_spaced(5, 10), np.arange(5))
    some = evenly_spaced(1000, 10)
    assert len(some) == 10 and some[0] == 0 and some[-1] == 999
