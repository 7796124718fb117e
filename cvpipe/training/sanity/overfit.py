"""Overfitting of a few examples, of which every working network is capable.

Source: CS231n, Babysitting the learning process.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.losses.kernels import is_kernel
from cvpipe.training.build import fresh_state
from cvpipe.training.sanity.case import SanityCase
from cvpipe.training.sanity.finding import Finding
from cvpipe.training.sanity.plots import line_plot
from cvpipe.training.schedules import LearningRate
from cvpipe.training.step import make_run_steps

# Training stops at LEARNED_FULLY times the expected initial loss. The check passes at LEARNED times
# the expected initial loss.
LEARNED_FULLY, LEARNED = 0.005, 0.05
LEAST_SCORE = 0.99
# Fraction of the steps used for warm-up, if the pipeline has warm-up.
WARM_UP = 0.1


class Attempt(NamedTuple):
    """Result of training on one batch."""

    losses: list[float]
    """Loss before each step."""
    expected: float
    """The smaller of the theoretical initial loss and the first loss; the first loss if no
    theoretical value is known.
    """
    score: float
    """Main score of the task on the batch after training; 0 if predictions are not finite.
    """
    updates: dict[str, float]
    """Change of each kernel in the first step at the full learning rate, as a fraction of the
    kernel's norm, by path. Output layers are excluded, because their kernels are initialized close
    to 0.
    """
    examples: int
    """Number of examples in the batch."""


def attempt_overfit(case: SanityCase, steps: int) -> Attempt:
    """Train the model on the batch with the pipeline's optimizer until it fits, for at most `steps`
    steps.
    """
    config, model = case.config, case.model
    highest: float = config.optimizer.learning_rate  # type: ignore[union-attr]
    warm_up = round(WARM_UP * steps) if config.schedule.warmup_epochs else 0
    rate = LearningRate(lambda step: tf.constant(highest), warm_up)
    state = fresh_state(config, case.task, {"network": model}, rate)
    run_steps = make_run_steps(state, case.task, config, tf.distribute.get_strategy())
    batches = iter(tf.data.Dataset.from_tensors(case.batch).repeat())
    kernels = [
        v
        for v in model.trainable_variables
        if is_kernel(v) and v.path.split("/")[0] not in model.output_names
    ]
    before = [kernel.numpy() for kernel in kernels]
    implied = case.task.initial_loss()
    expected = np.inf if implied is None else implied
    losses: list[float] = []
    updates: dict[str, float] = {}
    while len(losses) < steps and (
        not losses or losses[-1] > LEARNED_FULLY * min(expected, losses[0])
    ):
        losses.append(float(run_steps(batches, tf.constant(1))["losses"]["loss"]))
        if len(losses) == 1:
            # For all of cvpipe's optimizers, the first step is proportional to the learning rate.
            moved = max(warm_up, 1)
            updates = {
                kernel.path: moved * _relative(kernel.numpy(), start)
                for kernel, start in zip(kernels, before, strict=True)
            }
        if not np.isfinite(losses[-1]):
            break
    return Attempt(
        losses, min(expected, losses[0]), _score(case), updates, len(case.batch["weight"])
    )


def overfit(attempt: Attempt, score_name: str) -> Finding:
    """Check that the model fits the batch, by its final loss and score."""
    first, last = attempt.losses[0], attempt.losses[-1]
    ok = last <= LEARNED * attempt.expected and attempt.score >= LEAST_SCORE
    says = (
        f"in {len(attempt.losses)} steps on {attempt.examples} examples the loss went from"
        f" {first:.3g} to {last:.3g}, {score_name} to {attempt.score:.2f}"
    )
    advice = (
        ""
        if ok
        else (
            "The network can't overfit a few examples: check optimizer.learning_rate (see the"
            " next check) and the initial weights, and look for images with several labels"
        )
    )
    numbers = {
        "first_loss": first,
        "last_loss": last,
        "steps": len(attempt.losses),
        score_name: attempt.score,
    }
    figure = line_plot(
        np.arange(len(attempt.losses)),
        {"loss": np.array(attempt.losses)},
        "step on the same batch",
        "loss",
        log_y=True,
    )
    return Finding("overfits one batch", ok, says, advice, numbers, figure=figure)


def _relative(now: np.ndarray, before: np.ndarray) -> float:
    norm = float(np.linalg.norm(before))
    return float(np.linalg.norm(now - before)) / norm if norm else 0.0


def _score(case: SanityCase) -> float:
    outputs = case.model(case.batch["image"], training=True)
    if not all(np.isfinite(output).all() for output in tf.nest.flatten(outputs)):
        return 0.0
    targets, extent = case.batch["targets"], case.batch["extent"]
    if case.task.target_extent:
        extent = case.task.target_extent(targets)
    predictions = case.task.predict(
        {"network": lambda image, training: outputs}, case.batch["image"], extent
    )
    metrics = case.task.metrics()
    metrics.update(
        {name: value.numpy() for name, value in predictions.items()}, targets, case.batch["weight"]
    )
    return float(np.nan_to_num(metrics.result()[case.task.best_by.score]))
