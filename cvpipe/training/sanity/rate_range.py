"""Learning-rate range test (Smith 2015, section 3.3): training with a rising rate."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.data.stream import training_batches
from cvpipe.tasks.task import Task
from cvpipe.training.build import fresh_state
from cvpipe.training.sanity.finding import Finding
from cvpipe.training.sanity.plots import line_plot
from cvpipe.training.schedules import LearningRate
from cvpipe.training.state import State
from cvpipe.training.step import make_run_steps

LOWEST, HIGHEST = 1e-5, 10.0
# Decay of the moving average of the loss.
SMOOTHING = 0.9
# Training has diverged if the smoothed loss exceeds its minimum by this factor.
DIVERGED = 2.0
# Smaller relative decreases of the loss are noise.
LEAST_FALL = 0.05
# The pipeline's rate is too high if it exceeds the rate with the lowest loss by this factor.
ROOM_ABOVE = 5.0
# The pipeline's rate is too low if the suggested rate exceeds it by this factor.
ROOM_BELOW = 100.0


def rising_rates(steps: int) -> np.ndarray:
    """Return the rate of each step, float32 [steps], spaced evenly on a logarithmic scale."""
    return np.geomspace(LOWEST, HIGHEST, steps).astype(np.float32)


def rising_losses(
    state: State, source: Source, task: Task, config: Config, steps: int
) -> Iterator[dict[str, float]]:
    """Train with a rising learning rate and yield the losses of each step. Ends after the first
    loss that is not finite.

    Raises:
        DataError: more records are bad than the pipeline allows.
    """
    # Averaged weights aren't needed.
    config = config.model_copy(update={"train": config.train.model_copy(update={"ema": None})})
    rates = tf.constant(rising_rates(steps))
    rate = LearningRate(
        lambda step: tf.gather(rates, tf.minimum(tf.cast(step, tf.int32), steps - 1)), 0
    )
    state = fresh_state(config, task, state.networks, rate)
    run_steps = make_run_steps(state, task, config, tf.distribute.get_strategy())
    quarantine = Quarantine(source, "train", config.data.max_bad_share)
    batches = iter(
        training_batches(source, config, task.encode, quarantine, first_step=0, last_step=steps)
    )
    for _ in range(steps):
        outcome = run_steps(batches, tf.constant(1))
        quarantine.check()
        yield {name: float(value) for name, value in outcome["losses"].items()}
        if not bool(outcome["finite"]):
            return


def smoothed(losses: np.ndarray) -> np.ndarray:
    """Return the exponential moving average with Adam's bias correction (Kingma and Ba 2014,
    section 3).
    """
    averages, average = [], 0.0
    for step, loss in enumerate(losses, 1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        averages.append(average / (1 - SMOOTHING**step))
    return np.array(averages)


def has_diverged(losses: list[float]) -> bool:
    """Return True if the smoothed loss has diverged or the last loss is not finite."""
    if not np.isfinite(losses[-1]):
        return True
    average = smoothed(np.array(losses))
    return bool(average[-1] > DIVERGED * average.min())


def rate_range(losses: list[float], rates: np.ndarray, rate: float) -> Finding:
    """Suggest a learning rate, and check the pipeline's learning rate.

    Args:
        losses: loss of each step, up to the end or divergence.
        rates: learning rate of each step; there may be more rates than losses.
        rate: the highest learning rate of the pipeline.
    """
    finite = np.array(losses)[np.isfinite(losses)]
    average = smoothed(finite)
    lowest = int(average.argmin()) if len(average) else 0
    best_rate = float(rates[lowest])
    # Where the loss is lowest, steps begin to be too large. At a tenth of this rate, the loss still
    # falls.
    suggested = best_rate / 10
    # The rates of the first tenth of the steps are too low to change the loss.
    falls = (
        bool(len(average))
        and average[lowest] < (1 - LEAST_FALL) * finite[: 1 + len(rates) // 10].mean()
    )
    rises = "after which it rises" if lowest < len(finite) - 1 else "the highest that was tried"
    says = (
        f"the loss is lowest at a rate of {best_rate:.1e}, {rises}; use at most about"
        f" {suggested:.0e}, the pipeline has {rate:g}"
    )
    advice = ""
    if not falls:
        says = (
            f"the loss doesn't fall at any rate between {LOWEST:g} and"
            f" {float(rates[max(len(finite) - 1, 0)]):.1e}"
        )
        advice = (
            "Check the other findings, the images and the labels. If these are correct, use more"
            " steps (--sanity-steps)"
        )
    elif rate > ROOM_ABOVE * best_rate:
        advice = (
            "At the pipeline's rate the loss rises: lower optimizer.learning_rate to about"
            f" {suggested:.0e}"
        )
    elif rate < suggested / ROOM_BELOW:
        advice = (
            "At the pipeline's rate the loss falls slowly: raise optimizer.learning_rate to about"
            f" {suggested:.0e}"
        )
    numbers = {
        "lowest_at": best_rate,
        "suggested": suggested if falls else None,
        "learning_rate": rate,
        "steps": len(losses),
    }
    lines = {"loss": finite, "smoothed": average}
    figure = line_plot(
        rates[: len(finite)],
        lines,
        "learning rate",
        "loss",
        log_x=True,
        marks={"suggested": suggested, "pipeline": rate},
        highest_y=DIVERGED * float(finite[0]) if len(finite) else None,
    )
    return Finding("learning rate", not advice, says, advice, numbers, figure=figure)
