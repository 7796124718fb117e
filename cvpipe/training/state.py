"""Everything a training carries from step to step, and its checkpoints: one file, written whole or
not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cvpipe.atomic_write import atomic_write
from cvpipe.errors import DataError, UserError


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
    frozen: tuple[str, ...] = ()
    """Networks that are no part of a checkpoint."""

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
        _check_names(set(variables), {name for name in arrays if "/" in name}, origin)
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


def write_checkpoint(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a checkpoint in place of `file`, which keeps its old content whole until the new one is
    whole.

    Raises:
        UserError: a value is not finite (nothing is written), or the disk is full (the old file
            stays).
    """
    bad = [name for name, value in arrays.items() if "/" in name and not np.isfinite(value).all()]
    if bad:
        others = f" and {len(bad) - 1} others" if len(bad) > 1 else ""
        raise UserError(
            f"{file}: not saved, because {bad[0]}{others} are not finite; lower"
            " optimizer.learning_rate"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_write(file) as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        kept = (
            "the checkpoint before it is untouched" if file.exists() else "there is no earlier one"
        )
        why = error.strerror or error
        raise UserError(
            f"{file}: the checkpoint can't be written ({why}); {kept}. Make room and run the same"
            " command"
        ) from error


def read_checkpoint(file: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Read a checkpoint; the checksums of what is read are verified.

    Args:
        names: of the arrays to read; None for all.

    Raises:
        DataError: there is none, or it is damaged.
    """
    try:
        with np.load(file) as arrays:
            return {name: arrays[name] for name in names or arrays}
    except FileNotFoundError:
        raise DataError(f"{file}: no checkpoint there; train the run first") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{file}: the checkpoint is damaged ({error}); restore it from a copy, or train again"
            " with --fresh"
        ) from None


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
