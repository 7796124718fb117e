"""Guards optimizers and clipping, against NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config
from cvpipe.config import Config
from cvpipe.training.optimizers import make_optimizer
from cvpipe.training.schedules import make_schedule


def optimizer_of(config: Config, variables: list[keras.Variable]) -> keras.optimizers.Optimizer:
    """Return the pipeline's optimizer, built for the variables."""
    return make_optimizer(config, config.optimizer, make_schedule(config, 10, 100), variables)


def updated(*overrides: str, gradient: float = 0.25, steps: int = 2) -> dict[str, float]:
    """Values of a kernel and a bias, both 1 at first, after some steps with a constant gradient."""
    config = small_config("schedule={kind: constant}", "train.ema=null", *overrides)
    layer = keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="ones")
    layer.build((None, 1))
    optimizer = optimizer_of(config, layer.trainable_variables)
    for _ in range(steps):
        optimizer.apply([tf.fill(v.shape, gradient) for v in layer.trainable_variables])
    return {v.name: float(v.numpy().reshape(-1)[0]) for v in layer.trainable_variables}


def test_sgd_with_momentum_equals_its_formula() -> None:
    # v = −0.1 g, then v = 0.9 v − 0.1 g.
    values = updated("optimizer={kind: sgd, learning_rate: 0.1, momentum: 0.9}")
    assert values["kernel"] == pytest.approx(1 - 0.025 - (0.9 * 0.025 + 0.025), rel=1e-6)


def test_nesterov_looks_ahead() -> None:
    # w += 0.9 v − 0.1 g with the new v.
    values = updated(
        "optimizer={kind: sgd, learning_rate: 0.1, momentum: 0.9, nesterov: true}", steps=1
    )
    assert values["kernel"] == pytest.approx(1 - 0.9 * 0.025 - 0.025, rel=1e-6)


def test_adam_moves_by_the_learning_rate_where_the_gradient_is_constant() -> None:
    values = updated("optimizer={kind: adam, learning_rate: 0.01}")
    assert values["kernel"] == pytest.approx(1 - 2 * 0.01, rel=1e-4)


def test_adagrad_equals_its_formula() -> None:
    # w −= η g / √(Σ g² + ε), the sum beginning with the accumulator.
    values = updated("optimizer={kind: adagrad, learning_rate: 0.1, initial_accumulator: 0.5}")
    first, second = (0.1 * 0.25 / np.sqrt(0.5 + n * 0.25**2) for n in (1, 2))
    assert values["kernel"] == pytest.approx(1 - first - second, rel=1e-6)


def test_rmsprop_equals_its_formula() -> None:
    # v = ρ v + (1 − ρ) g², then m = μ m + η g / √(v + ε) and w −= m.
    values = updated("optimizer={kind: rmsprop, learning_rate: 0.1, rho: 0.8, momentum: 0.5}")
    first = 0.1 * 0.25 / np.sqrt(0.2 * 0.25**2)
    second = 0.5 * first + 0.1 * 0.25 / np.sqrt((0.8 * 0.2 + 0.2) * 0.25**2)
    assert values["kernel"] == pytest.approx(1 - first - second, rel=1e-5)


def test_momentum_keeps_the_learning_rates_of_its_past_steps() -> None:
    # The rate is 0.1 in the first step and 0.01 in the second: v = −0.1 g, then v = 0.9 v − 0.01 g.
    # With PyTorch's momentum, the second change would be −0.01 (0.9 g + g).
    falling = "schedule={kind: step, at: [0.1], factor: 0.1}"
    values = updated("optimizer={kind: sgd, learning_rate: 0.1, momentum: 0.9}", falling)
    assert values["kernel"] == pytest.approx(1 - 0.025 - (0.9 * 0.025 + 0.0025), rel=1e-6)


def test_epsilon_stands_where_its_description_says() -> None:
    g, epsilon = 0.25, 0.1
    # Adam's epsilon is divided by √(1 − β₂) at the first step.
    adam = updated("optimizer={kind: adam, learning_rate: 0.1, epsilon: 0.1}", steps=1)
    assert adam["kernel"] == pytest.approx(1 - 0.1 * g / (g + epsilon / np.sqrt(0.001)), rel=1e-5)
    # In AdaGrad and RMSProp, epsilon is inside the root.
    adagrad = updated(
        "optimizer={kind: adagrad, learning_rate: 0.1, initial_accumulator: 0, epsilon: 0.1}",
        steps=1,
    )
    assert adagrad["kernel"] == pytest.approx(1 - 0.1 * g / np.sqrt(g**2 + epsilon), rel=1e-6)
    rmsprop = updated(
        "optimizer={kind: rmsprop, learning_rate: 0.1, rho: 0.8, epsilon: 0.1}", steps=1
    )
    assert rmsprop["kernel"] == pytest.approx(1 - 0.1 * g / np.sqrt(0.2 * g**2 + epsilon), rel=1e-6)


SGD = "optimizer={kind: sgd, learning_rate: 1, momentum: 0}"


def test_the_norm_that_is_clipped_is_of_all_weights_together() -> None:
    # Kernel and bias have a gradient of 3 each: a norm of 3 √2, which a limit of 1 scales by 1 / (3
    # √2).
    values = updated(SGD, "train.clip_norm=1", gradient=3.0, steps=1)
    assert values == {
        "kernel": pytest.approx(1 - 1 / np.sqrt(2)),
        "bias": pytest.approx(1 - 1 / np.sqrt(2)),
    }
    assert updated(SGD, "train.clip_norm=100", gradient=3.0, steps=1)["kernel"] == pytest.approx(-2)


def test_numbers_are_cut_off_at_the_limit_and_keep_their_sign() -> None:
    assert updated(SGD, "train.clip_value=0.5", gradient=-3.0, steps=1)["kernel"] == pytest.approx(
        1.5
    )
    assert updated(SGD, "train.clip_value=0.5", gradient=0.25, steps=1)["kernel"] == pytest.approx(
        0.75
    )


@pytest.mark.parametrize("limit", ["train.clip_norm=1", "train.clip_value=0.5"])
def test_in_half_precision_the_true_gradient_is_clipped_not_the_scaled_one(limit: str) -> None:
    # A gradient below the limit is left alone; scaled, it would be far above.
    config = small_config(
        "schedule={kind: constant}", "train.ema=null", SGD, limit, "train.precision=mixed_float16"
    )
    variable = keras.Variable(1.0, name="kernel")
    optimizer = optimizer_of(config, [variable])
    scale = float(optimizer.scale_loss(tf.constant(1.0)))
    assert scale > 100
    optimizer.apply([tf.constant(0.25 * scale)])
    assert float(variable.numpy()) == pytest.approx(0.75)
    optimizer.apply([tf.constant(4 * scale)])
    assert float(variable.numpy()) == pytest.approx(0.75 - (1 if "norm" in limit else 0.5))


@pytest.mark.parametrize("limit", ["train.clip_norm=1", "train.clip_value=0.5"])
def test_an_overflow_is_not_clipped_into_a_step(limit: str) -> None:
    config = small_config(
        "schedule={kind: constant}", "train.ema=null", SGD, limit, "train.precision=mixed_float16"
    )
    variable = keras.Variable(1.0, name="kernel")
    optimizer = optimizer_of(config, [variable])
    scale = float(optimizer.scale_loss(tf.constant(1.0)))
    optimizer.apply([tf.constant(np.inf)])
    assert float(variable.numpy()) == 1
    assert float(optimizer.scale_loss(tf.constant(1.0))) == scale / 2


def test_weight_decay_spares_biases() -> None:
    values = updated(
        "optimizer={kind: adamw, learning_rate: 0.1, weight_decay: 0.5}", gradient=0.0, steps=1
    )
    assert values == {"kernel": pytest.approx(0.95), "bias": 1.0}


def test_the_average_follows_with_its_decay() -> None:
    config = small_config(
        "schedule={kind: constant}",
        "optimizer={kind: sgd, learning_rate: 1, momentum: 0}",
        "train.ema=0.5",
    )
    variable = keras.Variable(4.0, name="kernel")
    optimizer = optimizer_of(config, [variable])
    values = []
    for _ in range(3):
        optimizer.apply([tf.constant(1.0)])
        values.append(float(variable.numpy()))
    # The average starts with the value after the first step.
    expected = ((3.0 + values[1]) / 2 + values[2]) / 2
    optimizer.finalize_variable_values([variable])
    assert float(variable.numpy()) == pytest.approx(expected)
