"""Schedules against their formulas; optimizers against NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config
from cvpipe.training.optimizers import make_optimizer, make_schedule

STEPS_PER_EPOCH, EPOCHS = 10, 8


def rates(*overrides: str) -> np.ndarray:
    config = small_config(f"train.epochs={EPOCHS}", "optimizer.learning_rate=0.5", *overrides)
    schedule = make_schedule(config, STEPS_PER_EPOCH, STEPS_PER_EPOCH * EPOCHS)
    return np.array([float(schedule(tf.constant(step, tf.int64))) for step in range(STEPS_PER_EPOCH * EPOCHS)])


def test_constant_stays() -> None:
    np.testing.assert_allclose(rates("schedule={kind: constant}"), 0.5)


def test_step_changes_with_the_first_step_of_the_epoch() -> None:
    expected = np.repeat([0.5, 0.05, 0.005], [30, 20, 30])
    np.testing.assert_allclose(rates("schedule={kind: step, at: [3, 5]}"), expected, rtol=1e-6)


def test_cosine_follows_its_formula() -> None:
    share = np.arange(80) / 80
    expected = 0.5 * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * share)))
    np.testing.assert_allclose(rates("schedule={kind: cosine, final: 0.1}"), expected, rtol=1e-5)


@pytest.mark.parametrize("schedule", ["kind: constant", "kind: cosine", "kind: step, at: [6]"])
def test_warm_up_rises_in_equal_parts_and_then_lets_go(schedule: str) -> None:
    plain, warm = rates(f"schedule={{{schedule}}}"), rates(f"schedule={{{schedule}, warmup_epochs: 2}}")
    np.testing.assert_allclose(warm[:20] / plain[:20], np.arange(1, 21) / 20, rtol=1e-5)
    np.testing.assert_allclose(warm[20:], plain[20:])


def updated(*overrides: str, gradient: float = 0.25, steps: int = 2) -> dict[str, float]:
    """Values of a kernel and a bias, both 1 at first, after some steps with a constant gradient."""
    config = small_config("schedule={kind: constant}", "train.ema=null", *overrides)
    layer = keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="ones")
    layer.build((None, 1))
    optimizer = make_optimizer(config, make_schedule(config, 10, 100), layer.trainable_variables)
    for _ in range(steps):
        optimizer.apply([tf.fill(v.shape, gradient) for v in layer.trainable_variables])
    return {v.name: float(v.numpy().reshape(-1)[0]) for v in layer.trainable_variables}


def test_sgd_with_momentum_equals_its_formula() -> None:
    # v = −0.1 g, then v = 0.9 v − 0.1 g.
    values = updated("optimizer={kind: sgd, learning_rate: 0.1, momentum: 0.9}")
    assert values["kernel"] == pytest.approx(1 - 0.025 - (0.9 * 0.025 + 0.025), rel=1e-6)


def test_nesterov_looks_ahead() -> None:
    # w += 0.9 v − 0.1 g with the new v.
    values = updated("optimizer={kind: sgd, learning_rate: 0.1, momentum: 0.9, nesterov: true}", steps=1)
    assert values["kernel"] == pytest.approx(1 - 0.9 * 0.025 - 0.025, rel=1e-6)


def test_adam_moves_by_the_learning_rate_where_the_gradient_is_constant() -> None:
    values = updated("optimizer={kind: adam, learning_rate: 0.01}")
    assert values["kernel"] == pytest.approx(1 - 2 * 0.01, rel=1e-4)


def test_weight_decay_spares_biases() -> None:
    values = updated("optimizer={kind: adamw, learning_rate: 0.1, weight_decay: 0.5}", gradient=0.0, steps=1)
    assert values == {"kernel": pytest.approx(0.95), "bias": 1.0}


def test_the_average_follows_with_its_decay() -> None:
    config = small_config("schedule={kind: constant}", "optimizer={kind: sgd, learning_rate: 1, momentum: 0}", "train.ema=0.5")
    variable = keras.Variable(4.0, name="kernel")
    optimizer = make_optimizer(config, make_schedule(config, 10, 100), [variable])
    values = []
    for _ in range(3):
        optimizer.apply([tf.constant(1.0)])
        values.append(float(variable.numpy()))
    # The average starts at the first value it sees.
    expected = ((3.0 + values[1]) / 2 + values[2]) / 2
    optimizer.finalize_variable_values([variable])
    assert float(variable.numpy()) == pytest.approx(expected)
