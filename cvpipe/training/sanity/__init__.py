"""Sanity checks of a pipeline's data, network, loss and optimizer: `cvpipe train --sanity`.

Source: CS231n, Babysitting the learning process. The checks run on one device, without a run
folder. Their results depend only on the pipeline and its seed.
"""

from __future__ import annotations

from collections.abc import Iterator

from cvpipe.config import Config
from cvpipe.config.optimizer import Lbfgs
from cvpipe.data.sources import Source, open_splits
from cvpipe.errors import ConfigError
from cvpipe.tasks import load_task
from cvpipe.tasks.task import Task
from cvpipe.training.build import build_state
from cvpipe.training.sanity.activations import activations
from cvpipe.training.sanity.case import SanityCase, some_examples, without_regularization
from cvpipe.training.sanity.finding import Finding
from cvpipe.training.sanity.gradient_check import gradient_check
from cvpipe.training.sanity.gradient_flow import gradient_flow, gradient_norms
from cvpipe.training.sanity.initial_loss import initial_loss
from cvpipe.training.sanity.overfit import attempt_overfit, overfit
from cvpipe.training.sanity.rate_range import has_diverged, rate_range, rising_losses, rising_rates
from cvpipe.training.start import initialize
from cvpipe.training.state import State

__all__ = ["Finding", "check_sanity"]


def check_sanity(config: Config, steps: int) -> Iterator[Finding]:
    """Run the checks one after the other.

    Args:
        steps: maximum number of steps for overfitting a batch, and for the learning-rate range
            test.

    Raises:
        DataError: the data can't be used.
    """
    source = open_splits(config.data)["train"]
    task, searches = load_task(config, source.facts), not isinstance(config.optimizer, Lbfgs)
    if [update.moves for update in task.updates] != [("network",)]:
        raise ConfigError(
            f"--sanity: the checks require that one network is trained by gradients, which task:"
            f" {config.task} doesn't do; leave --sanity out"
        )
    losses = rising_losses(_fresh(config, source, task), source, task, config, steps)
    first = next(losses)
    yield initial_loss(first, task.initial_loss(), config, len(source.facts.class_names))
    quiet = without_regularization(config)
    quiet_task = load_task(quiet, source.facts)
    network = _fresh(quiet, source, quiet_task).networks["network"]
    case = SanityCase(network, quiet_task, quiet, some_examples(source, quiet, quiet_task))
    yield gradient_check(case)
    yield activations(case)
    norms = gradient_norms(case)
    attempt = attempt_overfit(case, steps) if searches else None
    yield gradient_flow(norms, attempt.updates if attempt else None)
    # L-BFGS has no learning rate and no steps on batches.
    if attempt:
        yield overfit(attempt, task.best_by.score)
        rising = [first["loss"]]
        while not has_diverged(rising) and (following := next(losses, None)):
            rising.append(following["loss"])
        yield rate_range(rising, rising_rates(steps), config.optimizer.learning_rate)  # type: ignore[union-attr]


def _fresh(config: Config, source: Source, task: Task) -> State:
    """Return an initial training state."""
    state, _ = build_state(config, task, len(source))
    initialize(state.networks, source, config, task)
    return state
