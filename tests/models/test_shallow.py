"""Guards the linear and the two-layer network."""

from __future__ import annotations

import numpy as np
import pytest

from cvpipe.models.build import classification_network
from cvpipe.models.describe import describe


def test_linear_is_a_matrix_and_a_shift():
    model = classification_network("linear", (5, 4, 3), 7)
    kernel, bias = (variable.numpy() for variable in model.trainable_variables)
    images = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype("float32")
    np.testing.assert_allclose(
        model(images)["logits"], images.reshape(2, 60) @ kernel + bias, rtol=1e-4, atol=1e-5
    )


def test_two_layer_has_one_hidden_layer_of_rectifiers():
    model = classification_network("two_layer", (5, 4, 3), 7, width=0.5)
    first, shift, second, bias = (variable.numpy() for variable in model.trainable_variables)
    assert first.shape == (60, 50)
    images = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype("float32")
    hidden = np.maximum(images.reshape(2, 60) @ first + shift, 0)
    np.testing.assert_allclose(
        model(images)["logits"], hidden @ second + bias, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "name, parameters",
    [("linear", 3072 * 10 + 10), ("two_layer", 3072 * 100 + 100 + 100 * 10 + 10)],
)
def test_shallow_networks_have_the_expected_parameters(name, parameters):
    description = describe(name)
    assert description["parameters"] == description["trainable_parameters"] == parameters


@pytest.mark.parametrize("name", ["linear", "two_layer"])
def test_names_do_not_depend_on_earlier_networks(name):
    first, second = [
        [variable.path for variable in classification_network(name, (4, 4, 1), 3).variables]
        for _ in range(2)
    ]
    assert first == second
    assert "logits/kernel" in first
