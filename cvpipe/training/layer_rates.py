"""Keras optimizers in which each variable has its own learning rate and first step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def with_rates(
    optimizer: type[keras.optimizers.Optimizer],
    rates: Sequence[float],
    first_steps: Sequence[int],
    *arguments: Any,
    **settings: Any,
) -> keras.optimizers.Optimizer:
    """Make a Keras optimizer in which each variable has its own learning rate and first step.

    Args:
        optimizer: class of the optimizer.
        rates: factor of each variable's learning rate and weight decay, in the order in which the
            optimizer will be built for the variables.
        first_steps: number of steps before each variable's first update. Adam corrects the bias of
            its moments by the number of updates. If this number included steps before a variable's
            first update, the first updates would be several times too large.
        arguments: positional arguments of the optimizer.
        settings: keyword arguments of the optimizer.
    """

    class Discriminative(_LayerRates, optimizer):
        pass

    made = Discriminative(*arguments, **settings)
    made.rates, made.first_steps = tuple(rates), tuple(first_steps)
    return made


class _LayerRates:
    """Mixin that overrides the parts of a Keras optimizer that handle one variable or its rate."""

    rates: tuple[float, ...]
    first_steps: tuple[int, ...]
    _factor, _steps_before = 1.0, 0

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: tf.Tensor) -> None:
        """Update one variable with its own rate and its own count of steps."""
        index = self._get_variable_index(variable)  # type: ignore[attr-defined]
        self._steps_before = self.first_steps[index]
        super().update_step(gradient, variable, learning_rate * self.rates[index])  # type: ignore[misc]
        self._steps_before = 0

    @property
    def iterations(self) -> Any:
        """Number of updates so far: during `update_step`, of this variable; else of all."""
        if not self._steps_before:
            return super().iterations  # type: ignore[misc]
        # After an overflow in half precision, the optimizer skips an update and doesn't count it,
        # so the difference can be negative.
        return tf.maximum(super().iterations - self._steps_before, 0)  # type: ignore[misc]

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        by_rate: dict[float, list[Any]] = {}
        for variable in variables:
            index = self._get_variable_index(variable)  # type: ignore[attr-defined]
            by_rate.setdefault(self.rates[index], []).append(variable)
        for self._factor, own in by_rate.items():
            super()._apply_weight_decay(own)  # type: ignore[misc]
        self._factor = 1.0

    def _get_current_learning_rate(self) -> Any:
        return super()._get_current_learning_rate() * self._factor  # type: ignore[misc]
