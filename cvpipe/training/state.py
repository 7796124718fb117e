"""Everything a training carries from step to step."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cvpipe.errors import DataError
from cvpipe.training.thawing import NO_THAWING, Thawing

# The arrays of a checkpoint that belong to the loop, see `State`.
MEMORY = (
    "step",
    "best_score",
    "evaluations_since_best",
    "rate_factor",
    "evaluations_waited",
    "converged",
    "recoveries",
)


@dataclasses.dataclass
class State:
    """Networks, optimizers and the loop's own memory."""

    networks: dict[str, keras.Model]
    optimizers: dict[str, keras.optimizers.Optimizer]
    moved: dict[str, list[keras.Variable]]
    """The variables that each optimizer moves."""
    step: tf.Variable
    """int64 scalar: steps done."""
    rate_factor: tf.Variable
    """float32 scalar: what plateaus have left of the learning rate, see `schedules.LearningRate`.
    """
    best_score: float = float("-inf")
    """Best validation score so far; where lower scores are better, its negative."""
    evaluations_since_best: int = 0
    evaluations_waited: int = 0
    """Since the best score or the learning rate's last fall on a plateau."""
    converged: bool = False
    """True once a full-batch training has come to its end, however few iterations that took."""
    recoveries: int = 0
    """Times that the training went on after a loss that was not finite."""
    frozen: tuple[str, ...] = ()
    """Networks that are no part of a checkpoint."""
    thawing: Thawing = NO_THAWING
    """Frozen layers of the others that are trained later."""

    @property
    def trained(self) -> dict[str, keras.Model]:
        """The networks that aren't frozen."""
        return {name: own for name, own in self.networks.items() if name not in self.frozen}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the whole state by name, bit for bit.

        Variables are named `networks/NETWORK/PATH` and `optimizers/OPTIMIZER/PATH`.
        """
        memory = {
            "step": self.step.numpy(),
            "best_score": np.float64(self.best_score),
            "evaluations_since_best": np.int64(self.evaluations_since_best),
            "rate_factor": self.rate_factor.numpy(),
            "evaluations_waited": np.int64(self.evaluations_waited),
            "converged": np.bool_(self.converged),
            "recoveries": np.int64(self.recoveries),
        }
        return {
            **{name: variable.numpy() for name, variable in self._variables().items()},
            **memory,
        }

    def restore(self, arrays: dict[str, np.ndarray], origin: Path) -> None:
        """Take the state over from `arrays`.

        Raises:
            DataError: names or shapes differ from this state's.
        """
        variables = self._variables()
        _check_names({*variables, *MEMORY}, set(arrays), origin)
        for name, variable in variables.items():
            if tuple(variable.shape) != arrays[name].shape:
                raise DataError(
                    f"{origin}: {name} has shape {arrays[name].shape}, the pipeline's has"
                    f" {tuple(variable.shape)}"
                )
            variable.assign(arrays[name])
        self.step.assign(arrays["step"])
        self.best_score = float(arrays["best_score"])
        self.evaluations_since_best = int(arrays["evaluations_since_best"])
        self.rate_factor.assign(arrays["rate_factor"])
        self.evaluations_waited = int(arrays["evaluations_waited"])
        self.converged = bool(arrays["converged"])
        self.recoveries = int(arrays["recoveries"])

    def is_finite(self) -> bool:
        """True if all weights of the networks that are trained are finite."""
        weights = (v for network in self.trained.values() for v in network.weights)
        return all(np.isfinite(v.numpy()).all() for v in weights if v.dtype.startswith("float"))

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Lend the networks their averaged weights, where an average is kept; afterwards they have
        the trained ones, bit for bit.
        """
        variables = [v for moved in self.moved.values() for v in moved]
        trained = [variable.numpy() for variable in variables]
        self.use_averaged_weights()
        try:
            yield
        finally:
            for variable, value in zip(variables, trained, strict=True):
                variable.assign(value)

    def use_averaged_weights(self) -> None:
        """Put the averaged weights in the networks, where an average is kept, for good."""
        for name, optimizer in self.optimizers.items():
            inner = getattr(optimizer, "inner_optimizer", optimizer)
            if inner.use_ema:
                inner.finalize_variable_values(self.moved[name])

    def _variables(self) -> dict[str, keras.Variable]:
        # Raw variables by path: tf.train.Checkpoint leaves out the state of Keras 3's seed
        # generators (dropout).
        parts = {
            **{f"networks/{name}": own for name, own in self.trained.items()},
            **{f"optimizers/{name}": own for name, own in self.optimizers.items()},
        }
        named = {f"{part}/{v.path}": v for part, own in parts.items() for v in own.variables}
        assert len(named) == sum(len(own.variables) for own in parts.values()), (
            "two variables share a path"
        )
        return named


def _check_names(expected: set[str], found: set[str], origin: Path) -> None:
    for names, what in (
        (expected - found, "lacks"),
        (found - expected, "has, and the pipeline lacks,"),
    ):
        if names:
            raise DataError(
                f"{origin}: {what} {sorted(names)[0]} (and {len(names) - 1} more); was it trained"
                " by another pipeline?"
            )
