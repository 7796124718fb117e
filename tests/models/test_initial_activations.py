"""Guards the lecture's activations at initialization: the initializers with which they collapse,
saturate, or keep their variance.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cvpipe.models.blocks import Style
from cvpipe.models.initial_activations import (
    HE,
    LAYERS,
    NONE,
    UNITS,
    activations,
    deep_network,
    initial_activations,
)
from cvpipe.pictures.activations import draw_activations

Cases = dict[str, dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def cases() -> Cases:
    return initial_activations()


def deviations(layers: dict[str, np.ndarray]) -> list[float]:
    """Return the standard deviation of each layer's activations."""
    return [float(values.std()) for values in layers.values()]


def powers(layers: dict[str, np.ndarray]) -> list[float]:
    """Return the mean square of each layer's activations."""
    return [float(np.square(values).mean()) for values in layers.values()]


def test_every_case_has_the_lectures_layers(cases: Cases) -> None:
    for layers in cases.values():
        assert list(layers) == [f"layer{number}" for number in range(1, LAYERS + 1)]
        assert {values.shape for values in layers.values()} == {(1000, UNITS)}


@pytest.mark.parametrize("function", ["tanh", "ReLU"])
def test_small_weights_collapse_activations(cases: Cases, function: str) -> None:
    found = deviations(cases[f"{function}, std 0.01"])
    # Each layer multiplies the deviation by 0.01 √500, or by 0.16 if half of its inputs are 0.
    factor = 0.01 * UNITS**0.5 / (1 if function == "tanh" else 2**0.5)
    for before, after in itertools.pairwise(found):
        assert after / before == pytest.approx(factor, rel=0.25)
    assert found[-1] < 1e-5 < 0.1 < found[0]


def test_large_weights_saturate_tanh(cases: Cases) -> None:
    for values in cases["tanh, std 1"].values():
        assert np.mean(np.abs(values) > 0.99) > 0.85


def test_xavier_keeps_tanh_away_from_zero_and_saturation(cases: Cases) -> None:
    found = deviations(cases["tanh, Xavier"])
    assert found == sorted(found, reverse=True) and found[-1] > 0.2
    for values in cases["tanh, Xavier"].values():
        assert np.mean(np.abs(values) > 0.99) < 0.02


def test_xavier_halves_the_power_of_relu_and_he_keeps_it(cases: Cases) -> None:
    xavier, he = powers(cases["ReLU, Xavier"]), powers(cases["ReLU, He"])
    # The power of a layer of 500 units varies by about a tenth; deviations of ten layers multiply.
    halved = [power * 2**number for number, power in enumerate(xavier, 1)]
    # The inputs have a power of 1.
    assert all(0.4 < power < 2.5 for power in (*he, *halved))


@pytest.mark.parametrize("function", ["tanh", "ReLU"])
def test_batch_norm_keeps_the_deviation_with_small_weights(cases: Cases, function: str) -> None:
    found = deviations(cases[f"{function}, std 0.01, batch norm"])
    np.testing.assert_allclose(found, found[0], rtol=0.05)
    # The deviations of tanh and of ReLU of a standard normal variable.
    assert found[0] == pytest.approx(0.628 if function == "tanh" else 0.584, rel=0.03)


def test_activations_are_those_of_the_batch_and_of_the_seed() -> None:
    starts = {"He": Style(NONE, HE, activation="relu")}
    first, again = initial_activations(starts, 1)["He"], initial_activations(starts, 1)["He"]
    np.testing.assert_array_equal(first["layer10"], again["layer10"])
    other = initial_activations(starts, 2)["He"]
    assert np.abs(other["layer10"] - first["layer10"]).max() > 0.1
    network = deep_network(starts["He"], layers=1, units=4)
    x = np.random.default_rng(0).normal(size=(3, 1, 1, 4)).astype("float32")
    kernel = network.weights[0].numpy()[0, 0]
    [values] = activations(network, x).values()
    np.testing.assert_allclose(values, np.maximum(x[:, 0, 0] @ kernel, 0), rtol=1e-5)


def test_the_picture_has_a_histogram_for_each_layer_with_its_deviation() -> None:
    random = np.random.default_rng(0)
    rows = {"wide": {"a": random.normal(size=(9, 5)), "b": random.normal(size=(9, 5))}}
    figure = draw_activations({**rows, "one $x$": {"a": np.zeros((9, 5))}})
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == f"a\nstd {rows['wide']['a'].std():.2g}"
    assert titles[2:] == ["std 0", ""] and not figure.axes[3].axison
    assert figure.axes[2].get_ylabel() == r"one \$x\$"
    counts = [patch.get_height() for patch in figure.axes[0].patches]
    assert sum(counts) == 45
