"""Frozen layers that are trained from some step on: `model.freeze_epochs`.

Each change of the layers that are trained needs a train step traced anew. The optimizer knows all
of them from the start, so that a checkpoint has the same variables throughout.
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
    """Times at which groups of frozen layers are trained, too."""

    steps: tuple[int, ...] = ()
    """Steps after which another group is, rising."""
    first_steps: Mapping[int, int] = dataclasses.field(default_factory=dict)
    """Steps before the first update of a variable, by its `id`; 0 where it has none here."""

    def groups(self, step: int) -> int:
        """Return the number of groups that are trained in the step after `step` steps."""
        return sum(own <= step for own in self.steps)


NO_THAWING = Thawing()
"""No layer is trained later than others."""


def plan_thawing(networks: Mapping[str, keras.Model], config: Config, examples: int) -> Thawing:
    """Freeze the networks as at the last step, and plan the steps until then.

    Args:
        networks: those that are trained.
        examples: number of training examples.

    Raises:
        ConfigError: a backbone has fewer stages than asked for.
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
    """Freeze the networks as they are trained in the step after `step` steps."""
    if thawing.steps:
        for network in networks.values():
            freeze(network, config.model, thawing.groups(step))
