"""The state of a training run."""

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

# Arrays of a checkpoint that belong to the training loop.
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
    """Networks, optimizers and variables of the training loop."""

    networks: dict[str, keras.Model]
    optimizers: dict[str, keras.optimizers.Optimizer]
    moved: dict[str, list[keras.Variable]]
    """Variables that each optimizer trains."""
    step: tf.Variable
    """int64 scalar: number of steps done."""
    rate_factor: tf.Variable
    """float32 scalar: factor of the learning rate after plateaus and recoveries."""
    best_score: float = float("-inf")
    """Best validation score so far, negated if lower scores are better."""
    evaluations_since_best: int = 0
    evaluations_waited: int = 0
    """Number of evaluations since the best score, or since the last reduction of the learning rate
    on a plateau.
    """
    converged: bool = False
    """True if full-batch training has converged."""
    recoveries: int = 0
    """Number of recoveries from losses that were not finite."""
    frozen: tuple[str, ...] = ()
    """Networks that aren't saved in checkpoints."""
    thawing: Thawing = NO_THAWING
    """Plan for layers that are frozen at first and trained later."""

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
        """Restore the state from `arrays`.

        Raises:
            DataError: names or shapes differ from those of this state.
        """
        variables = self._variables()
        _check_names({*variables, *MEMORY}, set(arrays), origin)
        for name, variable in variables.items():
            if tuple(variable.shape) != arrays[name].shape:
                raise DataError(
                    f"{origin}: {name} has shape {arrays[name].shape}, but the pipeline's network"
                    f" has {tuple(variable.shape)}"
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
        """Return True if all weights of the networks that aren't frozen are finite."""
        weights = (v for network in self.trained.values() for v in network.weights)
        return all(np.isfinite(v.numpy()).all() for v in weights if v.dtype.startswith("float"))

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Context in which the networks have their averaged weights, if there are any. Afterwards
        the networks have their trained weights again, bit for bit.
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
        """Replace the weights of the networks with their averages, if there are any."""
        for name, optimizer in self.optimizers.items():
            inner = getattr(optimizer, "inner_optimizer", optimizer)
            if inner.use_ema:
                inner.finalize_variable_values(self.moved[name])

    def _variables(self) -> dict[str, keras.Variable]:
        # Name variables by path. tf.train.Checkpoint isn't used, because it omits the states of
        # Keras 3's seed generators (dropout).
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
        (found - expected, "has, unlike the pipeline's state,"),
    ):
        if names:
            raise DataError(
                f"{origin}: {what} {sorted(names)[0]} (and {len(names) - 1} more); give a"
                " checkpoint of the same pipeline"
            )
