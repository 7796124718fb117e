"""Guards schedules, against their papers' formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from conftest import small_config
from cvpipe.config.optimizer import Plateau, Restarts
from cvpipe.training.schedules import after_evaluation, cycle_ends, make_schedule

STEPS_PER_EPOCH, EPOCHS = 10, 8
EPOCH = np.arange(80) / 10


def rates(*overrides: str) -> np.ndarray:
    config = small_config(f"train.epochs={EPOCHS}", "optimizer.learning_rate=0.5", *overrides)
    schedule = make_schedule(config, STEPS_PER_EPOCH, STEPS_PER_EPOCH * EPOCHS)
    return np.array(
        [float(schedule(tf.constant(step, tf.int64))) for step in range(STEPS_PER_EPOCH * EPOCHS)]
    )


def cosine(share: np.ndarray | float, final: float = 0.0) -> np.ndarray:
    return 0.5 * (final + (1 - final) * 0.5 * (1 + np.cos(np.pi * np.asarray(share))))


def test_the_constant_schedule_is_constant() -> None:
    np.testing.assert_allclose(rates("schedule={kind: constant}"), 0.5)


def test_step_changes_with_the_first_step_of_the_epoch() -> None:
    expected = np.repeat([0.5, 0.05, 0.005], [30, 20, 30])
    np.testing.assert_allclose(rates("schedule={kind: step, at: [3, 5]}"), expected, rtol=1e-6)


def test_cosine_follows_its_formula() -> None:
    np.testing.assert_allclose(
        rates("schedule={kind: cosine, final: 0.1}"), cosine(EPOCH / 8, 0.1), rtol=1e-5
    )


def test_polynomial_follows_its_formula() -> None:
    np.testing.assert_allclose(
        rates("schedule={kind: polynomial, power: 2, final: 0.1}"),
        0.5 * (0.9 * (1 - EPOCH / 8) ** 2 + 0.1),
        rtol=1e-5,
    )


def test_exponential_follows_its_formula() -> None:
    np.testing.assert_allclose(
        rates("schedule={kind: exponential, decay: 0.3}"), 0.5 * np.exp(-0.3 * EPOCH), rtol=1e-5
    )


def test_inverse_follows_its_formula() -> None:
    np.testing.assert_allclose(
        rates("schedule={kind: inverse, decay: 0.3}"), 0.5 / (1 + 0.3 * EPOCH), rtol=1e-5
    )


def test_restarts_of_equal_length_repeat_one_cosine() -> None:
    # SGDR's equation 5 with T_mult = 1.
    np.testing.assert_allclose(
        rates("schedule={kind: restarts, cycle_epochs: 2, final: 0.1}"),
        cosine(EPOCH % 2 / 2, 0.1),
        rtol=1e-4,
    )


def test_restarts_that_grow_are_cosines_of_their_own_length() -> None:
    # T_0 = 1 epoch, T_mult = 2: cycles of 1, 2 and 4 epochs, and the beginning of one of 8.
    expected = np.concatenate(
        [cosine(np.arange(10 * length) / (10 * length)) for length in (1, 2, 4, 8)]
    )[:80]
    np.testing.assert_allclose(
        rates("schedule={kind: restarts, cycle_epochs: 1, growth: 2}"),
        expected,
        rtol=1e-4,
        atol=1e-7,
    )


@pytest.mark.parametrize("growth", [1.0, 1.1, 1.5, 2.0, 3.0])
def test_each_restart_is_at_full_rate_and_the_step_before_it_at_the_lowest(growth: float) -> None:
    # At exactly these steps: Keras finds the cycle by a float32 logarithm, which misses some steps.
    schedule = Restarts(kind="restarts", cycle_epochs=0.7, growth=growth)
    found = rates(f"schedule={{kind: restarts, cycle_epochs: 0.7, growth: {growth}}}")
    ends = [end for end in cycle_ends(schedule, STEPS_PER_EPOCH, 80) if end < 80]
    assert len(ends) >= 2
    for begin, end in zip([0, *ends], ends):
        assert found[end] == np.float32(0.5)
        np.testing.assert_allclose(
            found[begin:end], cosine(np.arange(end - begin) / (end - begin)), rtol=1e-4, atol=1e-7
        )


@pytest.mark.parametrize(
    "epochs, growth, per_epoch, total, expected",
    [
        (2, 1, 10, 60, [20, 40, 60]),
        (2, 1, 10, 59, [20, 40, 60]),
        (1, 2, 10, 80, [10, 30, 70, 150]),
        (0.1, 1, 10, 4, [1, 2, 3, 4]),
        (0.01, 1, 10, 3, [1, 2, 3]),
        (1, 1, 7.5, 23, [8, 15, 23]),
    ],
)
def test_cycles_end_with_the_step_at_which_their_epochs_are_over(
    epochs: float, growth: float, per_epoch: float, total: int, expected: list[int]
) -> None:
    assert (
        cycle_ends(Restarts(kind="restarts", cycle_epochs=epochs, growth=growth), per_epoch, total)
        == expected
    )


def test_cyclic_is_smiths_triangle() -> None:
    # Smith's code, section 3.1: stepsize is half a cycle.
    step, stepsize, low, high = np.arange(80), 10, 0.2 * 0.5, 0.5
    cycle = np.floor(1 + step / (2 * stepsize))
    x = np.abs(step / stepsize - 2 * cycle + 1)
    plain = low + (high - low) * np.maximum(0, 1 - x)
    halved = low + (high - low) * np.maximum(0, 1 - x) / 2 ** (cycle - 1)
    np.testing.assert_allclose(
        rates("schedule={kind: cyclic, cycle_epochs: 2, lowest: 0.2}"), plain, rtol=1e-4
    )
    np.testing.assert_allclose(
        rates("schedule={kind: cyclic, cycle_epochs: 2, lowest: 0.2, shrink: 0.5}"),
        halved,
        rtol=1e-4,
    )


def test_a_cycle_need_not_be_a_whole_number_of_steps() -> None:
    found = rates("schedule={kind: cyclic, cycle_epochs: 0.75, lowest: 0}")
    np.testing.assert_allclose(found, 0.5 * (1 - np.abs(2 * (EPOCH / 0.75 % 1) - 1)), atol=1e-5)


SCHEDULES = [
    "kind: constant",
    "kind: cosine",
    "kind: polynomial",
    "kind: step, at: [6]",
    "kind: exponential",
    "kind: inverse",
    "kind: restarts, cycle_epochs: 3",
    "kind: cyclic, cycle_epochs: 3",
    "kind: plateau",
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_rises_linearly_and_then_ends(schedule: str) -> None:
    plain, warm = (
        rates(f"schedule={{{schedule}}}"),
        rates(f"schedule={{{schedule}, warmup_epochs: 2}}"),
    )
    np.testing.assert_allclose(warm[:20] / plain[:20], np.arange(1, 21) / 20, rtol=1e-5)
    np.testing.assert_allclose(warm[20:], plain[20:])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_graph_reads_the_same_rates(schedule: str) -> None:
    config = small_config(f"train.epochs={EPOCHS}", f"schedule={{{schedule}, warmup_epochs: 1}}")
    made = make_schedule(config, STEPS_PER_EPOCH, 80)
    steps = tf.range(80, dtype=tf.int64)
    eager = [float(made(step)) for step in steps]
    np.testing.assert_allclose(
        tf.function(lambda: tf.map_fn(made, steps, tf.float32))().numpy(),
        eager,
        rtol=1e-5,
        atol=1e-7,
    )


def test_a_graph_that_is_built_already_sees_the_learning_rate_fall() -> None:
    schedule = make_schedule(
        small_config("schedule={kind: plateau}", "optimizer.learning_rate=0.5"), 10, 80
    )
    rate = tf.function(lambda: schedule(tf.constant(5)))
    before = float(rate())
    schedule.factor.assign(0.25)
    assert (before, float(rate())) == (0.5, 0.125)


def fall(plateau: Plateau, gains: str) -> list[float]:
    """The factor after each evaluation; + is a new best score."""
    factor, waited, factors = 1.0, 0, []
    for gain in gains:
        factor, waited = after_evaluation(plateau, factor, waited, gain == "+")
        factors.append(factor)
    return factors


def test_a_plateau_is_as_many_evaluations_without_a_gain_as_patience_says() -> None:
    plateau = Plateau(kind="plateau", factor=0.5, patience=2, lowest=0.2)
    assert fall(plateau, "+--+-+--") == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_after_a_fall_patience_begins_anew_and_never_ends_below_the_lowest() -> None:
    plateau = Plateau(kind="plateau", factor=0.5, patience=2, lowest=0.2)
    assert fall(plateau, "--------") == [
        1,
        0.5,
        0.5,
        0.25,
        0.25,
        np.float32(0.2),
        np.float32(0.2),
        np.float32(0.2),
    ]
