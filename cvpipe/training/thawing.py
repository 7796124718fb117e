"""Unfreezing of layers during training: `model.freeze_epochs`.

Whenever layers are unfrozen, the training step is traced again. From the start, the optimizer has
variables for all layers that will be trained, so all checkpoints have the same variables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import keras

from cvpipe.config import Config
from cvpipe.models.freeze import freeze
from cvpipe.training.schedules import last_step_of


@dataclasses.dataclass(frozen=True)
class Thawing:
    """Plan of the steps at which groups of layers are unfrozen."""

    steps: tuple[int, ...] = ()
    """Numbers of steps after which one more group is trained, in ascending order."""
    first_steps: Mapping[int, int] = dataclasses.field(default_factory=dict)
    """Number of steps before a variable's first update, by the variable's `id`; 0 if missing."""

    def groups(self, step: int) -> int:
        """Return the number of unfrozen groups after `step` steps."""
        return sum(own <= step for own in self.steps)


NO_THAWING = Thawing()
"""Plan without layers that are unfrozen later."""


def plan_thawing(networks: Mapping[str, keras.Model], config: Config, examples: int) -> Thawing:
    """Freeze the networks as they will be at the last step, and return the plan of unfreezing.

    Args:
        networks: networks of the task that aren't frozen as a whole.
        config: the pipeline.
        examples: number of training examples.

    Raises:
        ConfigError: a backbone has fewer stages than `model.freeze_stages`.
    """
    epochs = config.model.freeze_epochs
    groups = [freeze(network, config.model) for network in networks.values()]
    if epochs is None:
        return NO_THAWING
    most = max(map(len, groups))
    steps = tuple(last_step_of(epochs * (number + 1), config, examples) for number in range(most))
    first = {
        id(variable): step
        for own in groups
        for group, step in zip(own, steps, strict=False)
        for layer in group
        for variable in layer.variables
    }
    for network in networks.values():
        freeze(network, config.model, most)
    return Thawing(steps, first)


def freeze_as_at(
    step: int, thawing: Thawing, networks: Mapping[str, keras.Model], config: Config
) -> None:
    """Freeze the layers that are not trained yet after `step` steps."""
    if thawing.steps:
        for network in networks.values():
            freeze(network, config.model, thawing.groups(step))
