"""Guards memories of patches: distances are those of brute force in NumPy and SciPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial.distance import cdist, mahalanobis

from cvpipe.answers.anomaly import UNCALIBRATED
from cvpipe.models.patch_memory import PatchBank, PatchGaussians, PatchMemory

HEIGHT, WIDTH, CHANNELS = 3, 4, 5
KEPT = [0, 2, 3]


def images(count: int, seed: int) -> np.ndarray:
    """Return random features of images, with another distribution at each place."""
    random = np.random.default_rng(seed)
    place = np.random.default_rng(99).normal(size=(HEIGHT, WIDTH, CHANNELS))
    return (10 + place + random.normal(size=(count, HEIGHT, WIDTH, CHANNELS))).astype(np.float32)


def bank(size: int = 20, neighbors: int = 4) -> PatchBank:
    layer = PatchBank(size, neighbors)
    layer.build((None, HEIGHT, WIDTH, CHANNELS))
    return layer


def gaussians() -> PatchGaussians:
    layer = PatchGaussians(KEPT, 0.01)
    layer.build((None, HEIGHT, WIDTH, CHANNELS))
    return layer


def take_in(layer: PatchMemory, features: np.ndarray, weight: list[int] | None = None) -> None:
    ones = [1] * len(features)
    layer.take_in(tf.constant(features), tf.constant(weight or ones, tf.float32))


def greedy(points: np.ndarray, count: int) -> np.ndarray:
    chosen = [0]
    while len(chosen) < min(count, len(points)):
        chosen.append(int(cdist(points, points[chosen]).min(1).argmax()))
    return points[chosen]


def test_a_bank_is_the_coreset_of_itself_and_the_next_batch() -> None:
    layer, expected = bank(), np.zeros((0, CHANNELS))
    for seed in range(3):
        features = images(2, seed)
        take_in(layer, features)
        expected = greedy(np.concatenate([expected, features.reshape(-1, CHANNELS)]), 20)
        assert float(layer.filled) == 20
        np.testing.assert_allclose(layer.bank, expected, rtol=1e-6)


def test_distances_are_those_of_the_nearest_patch_and_scores_are_those_of_equation_7() -> None:
    layer = bank()
    take_in(layer, images(4, 0))
    features, known = images(3, 7), layer.bank.numpy().astype(np.float64)
    found = layer(tf.constant(features))
    for n, image in enumerate(features.reshape(3, -1, CHANNELS).astype(np.float64)):
        pairwise = cdist(image, known)
        np.testing.assert_allclose(
            found["distances"][n], pairwise.min(1).reshape(HEIGHT, WIDTH), rtol=1e-5
        )
        farthest = int(pairwise.min(1).argmax())
        closest = int(pairwise[farthest].argmin())
        around = np.argsort(cdist(known[[closest]], known)[0])[:4]
        shares = np.exp(pairwise[farthest, closest]) / np.exp(pairwise[farthest, around]).sum()
        expected = (1 - shares) * pairwise[farthest, closest]
        np.testing.assert_allclose(found["image_distance"][n], expected, rtol=1e-4)


def test_a_partly_filled_bank_and_a_bank_without_neighbors_score_the_largest_distance() -> None:
    one = np.broadcast_to(images(1, 0)[:, :1, :1], (1, HEIGHT, WIDTH, CHANNELS))
    for layer in (bank(), bank(neighbors=1)):
        take_in(layer, one)
        assert float(layer.filled) == 1
        found = layer(tf.constant(images(2, 5)))
        expected = np.linalg.norm(images(2, 5) - one[0, 0, 0], axis=-1)
        np.testing.assert_allclose(found["distances"], expected, rtol=1e-5)
        np.testing.assert_allclose(found["image_distance"], expected.max((1, 2)), rtol=1e-5)


def test_gaussians_are_those_of_all_images_at_once() -> None:
    layer = gaussians()
    batches = [images(3, 0), images(5, 1), images(1, 2)]
    for features in batches:
        take_in(layer, features)
    every = np.concatenate(batches).reshape(9, -1, CHANNELS)[..., KEPT].astype(np.float64)
    tested = images(2, 7)
    found = layer(tf.constant(tested))["distances"].numpy().reshape(2, -1)
    for place in range(HEIGHT * WIDTH):
        covariance = np.cov(every[:, place].T) + 0.01 * np.eye(3)
        np.testing.assert_allclose(layer.mean[place], every[:, place].mean(0), rtol=1e-5)
        inverse = np.linalg.inv(covariance)
        for n, image in enumerate(tested.reshape(2, -1, CHANNELS)[..., KEPT].astype(np.float64)):
            expected = mahalanobis(image[place], every[:, place].mean(0), inverse)
            assert found[n, place] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("make", [bank, gaussians])
def test_images_of_weight_0_are_not_stored(make: type[PatchMemory]) -> None:
    some, others = make(), make()
    take_in(some, images(4, 0), [1, 0, 0, 1])
    take_in(others, images(4, 0)[[0, 3]])
    take_in(others, images(2, 5), [0, 0])
    tested = tf.constant(images(3, 7))
    for name, value in others(tested).items():
        np.testing.assert_allclose(some(tested)[name], value, rtol=1e-4)


@pytest.mark.parametrize("make", [bank, gaussians])
def test_the_same_batches_give_the_same_bits_and_distances_dont_depend_on_the_batch(
    make: type[PatchMemory],
) -> None:
    first, second = make(), make()
    for layer in (first, second):
        take_in(layer, images(4, 0))
    for one, other in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    tested = tf.constant(images(3, 7))
    together = first(tested)
    for n in range(3):
        for name, value in first(tested[n : n + 1]).items():
            np.testing.assert_allclose(value[0], together[name][n], rtol=1e-5)


@pytest.mark.parametrize("make", [bank, gaussians])
def test_an_empty_memory_measures_no_distance_and_is_uncalibrated(make: type[PatchMemory]) -> None:
    found = make()(tf.constant(images(2, 0)))
    assert (found.pop("threshold").numpy() == UNCALIBRATED).all()
    assert not any(value.numpy().any() for value in found.values())


@pytest.mark.parametrize("make", [bank, gaussians])
def test_a_memory_can_be_saved_and_loaded(make: type[PatchMemory]) -> None:
    features = keras.Input((HEIGHT, WIDTH, CHANNELS))
    layer = make()
    model = keras.Model(features, layer(features))
    take_in(layer, images(2, 0))
    again = keras.Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    for name, value in model(images(1, 3)).items():
        np.testing.assert_array_equal(again(images(1, 3))[name], value)
