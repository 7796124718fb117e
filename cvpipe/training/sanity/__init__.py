"""`cvpipe train --sanity`: what CS231n calls babysitting, on the pipeline's own data, network, loss
and optimizer.

Nothing of it changes a run. Everything is a function of the pipeline and its seed, on one device.
"""

from __future__ import annotations

from collections.abc import Iterator

from cvpipe.config import Config
from cvpipe.config.optimizer import Lbfgs
from cvpipe.data.sources import Source, open_splits
from cvpipe.tasks import task_module
from cvpipe.training.build import build_state
from cvpipe.training.sanity.activations import activations
from cvpipe.training.sanity.finding import Finding
from cvpipe.training.sanity.gradient_check import gradient_check
from cvpipe.training.sanity.gradient_flow import gradient_flow, gradient_norms
from cvpipe.training.sanity.initial_loss import initial_loss
from cvpipe.training.sanity.overfit import attempt_overfit, overfit
from cvpipe.training.sanity.rate_range import has_diverged, rate_range, rising_losses, rising_rates
from cvpipe.training.sanity.subject import Subject, calm, some_examples
from cvpipe.training.start import start
from cvpipe.training.state import State

__all__ = ["Finding", "check_sanity"]


def check_sanity(config: Config, steps: int) -> Iterator[Finding]:
    """Makes one check after the other.

    Args:
        steps: most train steps of the attempt to overfit, and again of the learning-rate range
            test.

    Raises:
        DataError: the data can't be used.
    """
    source = open_splits(config.data)["train"]
    task, searches = task_module(config.task), not isinstance(config.optimizer, Lbfgs)
    losses = rising_losses(_fresh(config, source), source, config, steps)
    first = next(losses)
    yield initial_loss(first, config, len(source.classes))
    quiet = calm(config)
    subject = Subject(
        _fresh(quiet, source).model, task, quiet, source.classes, some_examples(source, quiet, task)
    )
    yield gradient_check(subject)
    yield activations(subject)
    norms = gradient_norms(subject)
    attempt = attempt_overfit(subject, steps) if searches else None
    yield gradient_flow(norms, attempt.updates if attempt else None)
    # L-BFGS has no learning rate to be checked, and no steps on batches.
    if attempt:
        yield overfit(attempt, task.BEST_BY)
        rising = [first["loss"]]
        while not has_diverged(rising) and (following := next(losses, None)):
            rising.append(following["loss"])
        yield rate_range(rising, rising_rates(steps), config.optimizer.learning_rate)  # type: ignore[union-attr]


def _fresh(config: Config, source: Source) -> State:
    """A state as a training begins with."""
    state, _ = build_state(config, source.classes, len(source))
    start(state.model, source, config)
    return state
