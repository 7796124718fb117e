"""Sampling of trials: the contract, and Optuna's random sampler, in ranges that become narrower in
each round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cvpipe.errors import UserError
from cvpipe.search.space import Dimension, Range, Value

# A round searches around this fraction of the best earlier trials, and around at least two.
BEST_SHARE = 0.25
# After this many draws in a row without a new combination, the space counts as exhausted.
MOST_DRAWS = 1000


class Sampler(Protocol):
    """Sequence of drawn trials, determined by a seed and the scores."""

    def ask(self, space: Sequence[Any]) -> tuple[Any, dict[str, Value]] | None:
        """Draw a new trial from dimensions of the kinds that the sampler knows.

        Returns:
            The trial to pass to `tell`, and its values by key, which no earlier trial had; None if
            MOST_DRAWS draws gave no new values.
        """
        ...

    def tell(self, asked: Any, merit: float | None) -> None:
        """Report a trial's score, of which higher ones are better; None if it failed."""
        ...


class Study:
    """The random sampler.

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
    """Narrow the search space to the region of the best trials so far; choices are not changed.

    Args:
        ranked: the trials so far, best first, each with "values" by key, "round" and "score" (None
            if it failed).
        trials: number of trials per round.
    """
    good = [trial["values"] for trial in ranked if trial["score"] is not None]
    if len(good) < 2:
        return tuple(space)
    best = good[: max(2, round(BEST_SHARE * len(good)))]
    # Every round draws trials around the best ones, so their density there grows with the rounds.
    draws = trials * len({trial["round"] for trial in ranked})
    return tuple(
        (
            dimension.narrowed([values[dimension.key] for values in best], draws)
            if isinstance(dimension, Range)
            else dimension
        )
        for dimension in space
    )
