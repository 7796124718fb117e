"""Sampling of trials: the protocol of samplers, random sampling by Optuna, and narrowing of ranges
from round to round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cvpipe.errors import UserError
from cvpipe.search.space import Dimension, Range, Value

# A round searches near the best earlier trials: this fraction of all trials, but at least two.
BEST_SHARE = 0.25
# A sampler gives up after this number of draws without a new combination.
MOST_DRAWS = 1000


class Sampler(Protocol):
    """Draws trials. A seed and the reported scores determine the sequence."""

    def ask(self, space: Sequence[Any]) -> tuple[Any, dict[str, Value]] | None:
        """Draw a trial with values that no earlier trial had.

        Returns:
            An object to pass to `tell`, and the trial's values by key; None if no new values were
            found, because all or almost all combinations have been tried.
        """
        ...

    def tell(self, asked: Any, merit: float | None) -> None:
        """Report a trial's score, higher for better trials; None if the trial failed."""
        ...


class Study:
    """The sampler that draws at random, by Optuna.

    Raises:
        UserError: Optuna isn't installed.
    """

    def __init__(self, seed: int):
        try:
            import optuna
        except ImportError:
            raise UserError(
                "cvpipe sweep needs Optuna; install it with: pip install 'cvpipe[sweep]'"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna = optuna
        self._study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.RandomSampler(seed=seed)
        )
        self._taken: set[tuple[Value, ...]] = set()

    def ask(self, space: Sequence[Dimension]) -> tuple[Any, dict[str, Value]] | None:
        """Draw a new trial, `Sampler.ask`."""
        for _ in range(MOST_DRAWS):
            asked = self._study.ask(
                {dimension.key: self._distribution(dimension) for dimension in space}
            )
            values = {
                dimension.key: (
                    dimension.plain(asked.params[dimension.key])
                    if isinstance(dimension, Range)
                    else asked.params[dimension.key]
                )
                for dimension in space
            }
            if tuple(values.values()) not in self._taken:
                self._taken.add(tuple(values.values()))
                return asked, values
            self._study.tell(asked, state=self._optuna.trial.TrialState.PRUNED)
        return None

    def tell(self, asked: Any, merit: float | None) -> None:
        """Report a trial's score, `Sampler.tell`."""
        self._study.tell(
            asked, merit, self._optuna.trial.TrialState.FAIL if merit is None else None
        )

    def _distribution(self, dimension: Dimension) -> Any:
        kinds = self._optuna.distributions
        if not isinstance(dimension, Range):
            return kinds.CategoricalDistribution(dimension.texts)
        if dimension.whole:
            return kinds.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
        return kinds.FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def narrowed(
    space: Sequence[Dimension], ranked: Sequence[Mapping[str, Any]], trials: int
) -> tuple[Dimension, ...]:
    """Narrow the ranges of a search space to the region of the best trials. Choices stay the same.

    Args:
        space: the search space.
        ranked: the earlier trials, best first, each with "values" by key, "round", and "score"
            (None if it failed).
        trials: number of trials per round.
    """
    good = [trial["values"] for trial in ranked if trial["score"] is not None]
    if len(good) < 2:
        return tuple(space)
    best = good[: max(2, round(BEST_SHARE * len(good)))]
    # Each round draws its trials near the best trials, so their density grows with every round.
    draws = trials * len({trial["round"] for trial in ranked})
    return tuple(
        (
            dimension.narrowed([values[dimension.key] for values in best], draws)
            if isinstance(dimension, Range)
            else dimension
        )
        for dimension in space
    )
