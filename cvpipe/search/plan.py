"""Pipeline, search space and budget of a sweep, which can be checked without TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from cvpipe import config_file
from cvpipe.config import Config
from cvpipe.errors import ConfigError
from cvpipe.search import SamplerName
from cvpipe.search.space import Choices, Dimension, check


@dataclasses.dataclass(frozen=True)
class Plan:
    """Pipeline, search space and budget of a sweep."""

    pipeline: Path
    overrides: tuple[str, ...] = ()
    """Overrides of the form `key=value`, for all trials."""
    search: tuple[str, ...] = ()
    """Search dimensions, parsed by `space.parse`. If empty, the only trial is the unchanged
    pipeline.
    """
    trials: int = 10
    """Trials per round."""
    rounds: int = 1
    """Number of rounds. Later rounds narrow the ranges to the region of the best trials."""
    folds: int | None = None
    """Number of folds; None to train each trial once, on the pipeline's splits."""
    sampler: SamplerName = "random"
    """Way of drawing trials. "evolution" and "controller" learn from the scores of earlier trials.
    They need one round and choices instead of ranges.
    """

    def load(self, overrides: Sequence[str] = (), fold: int = 0) -> Config:
        """Return the configuration of one run. Raise ConfigError if it is invalid."""
        cut = [] if self.folds is None else [f"data.fold={{of: {self.folds}, index: {fold}}}"]
        return config_file.load(self.pipeline, [*self.overrides, *overrides, *cut])

    def check(self) -> tuple[Dimension, ...]:
        """Return the search dimensions. Raise ConfigError if the plan is invalid."""
        for name in ("trials", "rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} {getattr(self, name)}: at least 1 is needed")
        if self.folds is not None and self.folds < 2:
            raise ConfigError(f"--folds {self.folds}: at least 2 are needed")
        if not self.search and self.folds is None:
            raise ConfigError(
                "nothing to compare; say what to search, such as --search"
                " optimizer.learning_rate=1e-3:1:log, or cross-validate with --folds 5"
            )
        self.load()
        space = check(self.search, self.load)
        if self.sampler != "random":
            self._check_learnable(space)
        return space

    def _check_learnable(self, space: tuple[Dimension, ...]) -> None:
        """Raise ConfigError if the sampler can't learn from trials in this space."""
        given = f"--sampler {self.sampler}"
        if self.rounds > 1:
            raise ConfigError(f"{given}: learns from all trials in one round; leave --rounds out")
        if not space:
            raise ConfigError(f"{given}: needs keys to search; add --search")
        for dimension in space:
            if not isinstance(dimension, Choices):
                raise ConfigError(
                    f"{given}: only searches choices; write {dimension.key} as a list, such as"
                    f" --search {dimension.key}=1,2,4"
                )
