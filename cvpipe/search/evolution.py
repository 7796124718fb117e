"""Regularized evolution over choices (Real et al. 2019, algorithm 1).

The first trials are random and form a population. Each later trial is a copy of the best of a few
randomly chosen members, with one choice changed. It replaces the oldest member, even if that member
has the best score. If all copies have been tried, a random trial that hasn't been tried follows.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cvpipe.search.draw import MOST_DRAWS
from cvpipe.search.space import Choices, Value

# The paper's 100 and 25 are for thousands of trials; a sweep has tens.
POPULATION = 8
SAMPLE = 4

Genes = tuple[int, ...]
"""Index of the chosen text in each dimension."""


class Member(NamedTuple):
    """A member of the population."""

    genes: Genes
    merit: float


class Evolution:
    """The `draw.Sampler` that evolves a population.

    Args:
        seed: determines the draws.
        population: number of members.
        sample: number of members, drawn with replacement, from which the best becomes the parent.
    """

    def __init__(self, seed: int, population: int = POPULATION, sample: int = SAMPLE):
        self.members: deque[Member] = deque(maxlen=population)
        """The population, oldest member first."""
        self._sample = sample
        self._random = np.random.default_rng(seed)
        self._taken: set[Genes] = set()

    def ask(self, space: Sequence[Choices]) -> tuple[Genes, dict[str, Value]] | None:
        """Draw a new trial, `Sampler.ask`."""
        counts = [len(dimension.texts) for dimension in space]
        for _ in range(MOST_DRAWS):
            grown = len(self.members) == self.members.maxlen
            genes = self._mutated(self._parent(), counts) if grown else self._drawn(counts)
            if genes not in self._taken:
                break
        else:
            # The neighbors of all members have been tried.
            if len(self._taken) >= math.prod(counts):
                return None
            while genes in self._taken:
                genes = self._drawn(counts)
        self._taken.add(genes)
        return genes, values_of(space, genes)

    def tell(self, asked: Genes, merit: float | None) -> None:
        """Add a trial to the population, `Sampler.tell`. A full population loses its oldest
        member.
        """
        self.members.append(Member(asked, -math.inf if merit is None else merit))

    def _drawn(self, counts: Sequence[int]) -> Genes:
        return tuple(int(self._random.integers(count)) for count in counts)

    def _parent(self) -> Genes:
        chosen = self._random.integers(len(self.members), size=self._sample)
        return max((self.members[index] for index in chosen), key=lambda own: own.merit).genes

    def _mutated(self, genes: Genes, counts: Sequence[int]) -> Genes:
        places = [place for place, count in enumerate(counts) if count > 1]
        if not places:
            return genes
        at = places[int(self._random.integers(len(places)))]
        # Never the same choice again.
        moved = (genes[at] + 1 + int(self._random.integers(counts[at] - 1))) % counts[at]
        return (*genes[:at], moved, *genes[at + 1 :])


def values_of(space: Sequence[Choices], genes: Sequence[int]) -> dict[str, Value]:
    """Return the chosen texts by key."""
    return {
        dimension.key: dimension.texts[gene] for dimension, gene in zip(space, genes, strict=True)
    }
