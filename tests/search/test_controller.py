"""Guards the controller: it learns by REINFORCE which choices are rewarded."""

from __future__ import annotations

import itertools
from math import exp

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.search.controller import Controller, Policy
from cvpipe.search.space import Choices

COUNTS = (3, 2, 2)
SPACE = [Choices(f"key{n}", tuple(map(str, range(count)))) for n, count in enumerate(COUNTS)]
ALL = list(itertools.product(*map(range, COUNTS)))


@pytest.fixture(scope="module")
def policy() -> Policy:
    """A policy that no test trains."""
    return Policy(COUNTS, 0)


def probability(policy: Policy, genes: tuple[int, ...]) -> float:
    return exp(float(policy.log_probability(tf.constant(genes))))


def test_the_probabilities_of_all_trials_add_up_to_one(policy: Policy) -> None:
    probabilities = [probability(policy, genes) for genes in ALL]
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    # Weights start small, so that all trials are about equally probable.
    np.testing.assert_allclose(probabilities, 1 / len(ALL), rtol=0.1)


def test_trials_are_drawn_by_their_probability_and_seed(policy: Policy) -> None:
    drawn = [tuple(policy.draw(tf.constant([1, n])).numpy()) for n in range(600)]
    again = [tuple(policy.draw(tf.constant([1, n])).numpy()) for n in range(10)]
    assert drawn[:10] == again
    counts = [drawn.count(genes) for genes in ALL]
    np.testing.assert_allclose(counts, 600 / len(ALL), atol=25)


@pytest.mark.parametrize("advantage", [0.5, -0.5])
def test_a_step_makes_a_rewarded_trial_more_probable_and_a_punished_one_less(
    advantage: float,
) -> None:
    policy, genes = Policy(COUNTS, 1), (2, 0, 1)
    policy.learn(tf.constant(genes), tf.constant(0.0))
    before = probability(policy, genes)
    assert before == probability(Policy(COUNTS, 1), genes)
    policy.learn(tf.constant(genes), tf.constant(advantage))
    assert np.sign(probability(policy, genes) - before) == np.sign(advantage)


def test_the_gradient_is_that_of_the_log_probability(policy: Policy) -> None:
    genes, kernel = tf.constant((1, 1, 0)), policy._scores[2].kernel
    with tf.GradientTape() as tape:
        total = policy.log_probability(genes)
    gradient = tape.gradient(total, kernel.value).numpy()
    place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
    values = kernel.numpy()
    apart = []
    for step in (0.1, -0.1):
        moved = values.copy()
        moved[place] += step
        kernel.assign(moved)
        apart.append(float(policy.log_probability(genes)))
    kernel.assign(values)
    assert (apart[0] - apart[1]) / 0.2 == pytest.approx(gradient[place], rel=0.02)


WIDE = [Choices(f"key{n}", tuple("abcd")) for n in range(4)]


def search(seed: int, trials: int) -> tuple[Controller, list[tuple[int, ...]]]:
    """Return a controller and its trials, rewarded for the third choice of the first dimension."""
    controller, asked = Controller(seed), []
    for _ in range(trials):
        drawn = controller.ask(WIDE)
        assert drawn
        asked.append(drawn[0])
        controller.tell(drawn[0], 0.9 if drawn[0][0] == 2 else 0.6)
    return controller, asked


def test_a_rewarded_choice_becomes_more_probable_than_all_others() -> None:
    controller, asked = search(3, 60)
    assert len(set(asked)) == 60 and controller._policy
    drawn = [controller._policy.draw(tf.constant([8, n])).numpy()[0] for n in range(200)]
    assert drawn.count(2) > 90


@pytest.mark.soak
def test_the_controller_learns_many_choices_at_once() -> None:
    controller = Controller(7)
    space = [Choices(f"key{n}", tuple("abcdef")) for n in range(24)]
    scores = []
    for _ in range(150):
        drawn = controller.ask(space)
        assert drawn
        scores.append(sum(choice < 3 for choice in drawn[0]) / 24)
        controller.tell(drawn[0], scores[-1])
    assert np.mean(scores[-30:]) > np.mean(scores[:30]) + 0.1


def test_the_seed_and_the_scores_decide_what_is_drawn() -> None:
    assert search(4, 5)[1] == search(4, 5)[1] != search(5, 5)[1]


def test_a_failed_trial_teaches_nothing_and_is_not_drawn_again() -> None:
    controller, space = Controller(6), [Choices("a", ("0", "1")), Choices("b", ("0", "1"))]
    drawn = controller.ask(space)
    assert drawn and controller._policy
    before = probability(controller._policy, drawn[0])
    controller.tell(drawn[0], None)
    assert probability(controller._policy, drawn[0]) == before
    again = controller.ask(space)
    assert again and again[0] != drawn[0]
