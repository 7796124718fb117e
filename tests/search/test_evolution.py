"""Guards regularized evolution: the population ages, and children differ in one choice."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cvpipe.search.evolution import Evolution
from cvpipe.search.space import Choices

SPACE = [Choices(key, tuple("abcde")) for key in "klmn"]


def grown(seed: int, trials: int, population: int = 5, sample: int = 3) -> Evolution:
    """Return an evolution whose score is the number of choices "e"."""
    evolution = Evolution(seed, population, sample)
    for _ in range(trials):
        asked = evolution.ask(SPACE)
        assert asked
        evolution.tell(asked[0], merit(asked[1]))
    return evolution


def merit(values: dict[str, object]) -> float:
    return sum(value == "e" for value in values.values())


def test_the_population_keeps_its_size_and_the_oldest_leaves_however_good() -> None:
    evolution, told = Evolution(0, population=4, sample=2), []
    for number in range(12):
        asked = evolution.ask(SPACE)
        assert asked
        told.append(asked[0])
        # The first trial is the best by far.
        evolution.tell(asked[0], 100.0 if number == 0 else float(number % 3))
        assert [member.genes for member in evolution.members] == told[-4:]


def test_a_child_differs_from_a_member_in_one_choice() -> None:
    evolution = grown(1, 5)
    for number in range(40):
        members = [member.genes for member in evolution.members]
        asked = evolution.ask(SPACE)
        assert asked
        apart = [sum(a != b for a, b in zip(own, asked[0], strict=True)) for own in members]
        assert min(apart) == 1
        evolution.tell(asked[0], float(number))


def test_the_parent_is_the_best_of_the_sampled_members() -> None:
    evolution = Evolution(2, population=6, sample=200)
    for number, gene in enumerate((0, 1, 4, 2, 3, 0)):
        evolution.tell((gene, number % 5, 0, 0), merit=float(gene))
    best = (4, 2, 0, 0)
    for _ in range(10):
        asked = evolution.ask(SPACE)
        assert asked and sum(a != b for a, b in zip(best, asked[0], strict=True)) == 1


def test_every_other_choice_of_every_dimension_is_as_probable() -> None:
    evolution = Evolution(3, population=1, sample=1)
    evolution.tell((0, 0, 0, 0), merit=1.0)
    moved = Counter(evolution._mutated((0, 0, 0, 0), [5] * 4) for _ in range(1600))
    assert len(moved) == 16 and min(moved.values()) > 60


def test_no_trial_is_drawn_twice_and_all_are_found() -> None:
    evolution = Evolution(4, population=3, sample=2)
    space, seen = [Choices(key, ("1", "2")) for key in "abc"], []
    while asked := evolution.ask(space):
        evolution.tell(asked[0], 0.0)
        seen.append(asked[0])
    assert len(seen) == len(set(seen)) == 8


@pytest.mark.parametrize("choices", ["12", "123456"])
def test_all_trials_are_found_however_good_some_are(choices: str) -> None:
    space = [Choices(key, tuple(choices)) for key in "ab"] + [Choices("c", ("1",))]
    for seed in range(20):
        evolution, found = Evolution(seed, population=2, sample=2), 0
        while asked := evolution.ask(space):
            evolution.tell(asked[0], float(sum(asked[0])))
            found += 1
        assert found == len(choices) ** 2, seed


def test_the_seed_and_the_scores_decide_what_is_drawn() -> None:
    assert grown(5, 20).members == grown(5, 20).members != grown(6, 20).members


def test_evolution_finds_better_trials_than_chance() -> None:
    space, best, random = [Choices(key, tuple("abcde")) for key in "klmnop"], [], []
    for seed in range(20):
        evolution, merits = Evolution(seed), []
        for _ in range(60):
            asked = evolution.ask(space)
            assert asked
            merits.append(sum(asked[0]))
            evolution.tell(asked[0], float(merits[-1]))
        best.append(max(merits))
        random.append(np.random.default_rng(seed).integers(5, size=(60, 6)).sum(axis=1).max())
    assert np.mean(best) > np.mean(random) + 1


@pytest.mark.parametrize("merit", [None, -3.0])
def test_failed_trials_are_no_parents(merit: float | None) -> None:
    evolution = Evolution(7, population=2, sample=50)
    evolution.tell((0, 0, 0, 0), merit=-5.0 if merit is None else -6.0)
    evolution.tell((4, 4, 4, 4), merit=merit)
    best = (0, 0, 0, 0) if merit is None else (4, 4, 4, 4)
    asked = evolution.ask(SPACE)
    assert asked and sum(a != b for a, b in zip(best, asked[0], strict=True)) == 1
