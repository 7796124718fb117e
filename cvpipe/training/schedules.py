"""Learning rate schedules.

A schedule maps the step, counted from 0, to a float32 learning rate; both are scalars.

Pipeline files count in epochs. An epoch has examples / batch_size steps, which may be a fraction.
Smooth schedules use the exact fraction. The changes of `kind: step` and the end of the warm-up are
rounded to the nearest step, and the ends of the cycles of `kind: restarts` are rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.optimizer import (
    Constant,
    Cosine,
    Cyclic,
    Exponential,
    Inverse,
    Lbfgs,
    Plateau,
    Polynomial,
    Restarts,
    Step,
)

Rate = Callable[[tf.Tensor], tf.Tensor]


class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Product of a schedule, its warm-up (Goyal et al. 2017, section 2.2) and the plateau factor.

    Attributes:
        factor: float32 variable, 1 until a plateau or a recovery reduces it. Its value changes only
            between calls of the graph.
    """

    def __init__(self, rate: Rate, warmup_steps: int):
        super().__init__()
        self.rate, self.warmup_steps = rate, warmup_steps
        self.factor = tf.Variable(1.0, trainable=False, name="learning_rate_factor")

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the learning rate, which is above 0 at the first step of a warm-up."""
        rise = (tf.cast(step, tf.float32) + 1) / max(self.warmup_steps, 1)
        return self.rate(step) * tf.minimum(rise, 1.0) * self.factor


def make_schedule(config: Config, steps_per_epoch: float, total_steps: int) -> LearningRate:
    """Create the pipeline's learning rate.

    Call this in the strategy's scope, because every replica reads the variable `factor`.
    """
    schedule = config.schedule
    # L-BFGS has no learning rate. Its line search first tries a step of length 1.
    highest = 1.0 if isinstance(config.optimizer, Lbfgs) else config.optimizer.learning_rate
    match schedule:
        case Constant() | Plateau():
            rate: Rate = partial(_constant, highest=highest)
        case Step():
            steps = [round(epoch * steps_per_epoch) for epoch in schedule.at]
            rates = [highest * schedule.factor**n for n in range(len(steps) + 1)]
            # Keras changes the rate after the boundary. In pipelines, `at: [30]` changes the rate
            # from the first step of epoch 30 on.
            rate = keras.optimizers.schedules.PiecewiseConstantDecay(
                [step - 1 for step in steps], rates
            )
        case Cosine():
            rate = keras.optimizers.schedules.CosineDecay(
                highest, total_steps, alpha=schedule.final
            )
        case Polynomial():
            rate = keras.optimizers.schedules.PolynomialDecay(
                highest, total_steps, schedule.final * highest, schedule.power
            )
        case Exponential():
            rate = keras.optimizers.schedules.ExponentialDecay(
                highest, steps_per_epoch, math.exp(-schedule.decay)
            )
        case Inverse():
            rate = keras.optimizers.schedules.InverseTimeDecay(
                highest, steps_per_epoch, schedule.decay
            )
        case Restarts():
            ends = cycle_ends(schedule, steps_per_epoch, total_steps)
            rate = partial(_restarts, highest=highest, final=schedule.final, ends=ends)
        case Cyclic():
            length = schedule.cycle_epochs * steps_per_epoch
            rate = partial(
                _cyclic,
                highest=highest,
                lowest=schedule.lowest,
                length=length,
                shrink=schedule.shrink,
            )
    return LearningRate(rate, round(schedule.warmup_epochs * steps_per_epoch))


def last_step_of(epoch: int | float, config: Config, examples: int) -> int:
    """Return the number of steps after which every example has been seen `epoch` times."""
    return -int(-epoch * examples // config.train.batch_size)


def cycle_ends(schedule: Restarts, steps_per_epoch: float, total_steps: int) -> list[int]:
    """Return the steps at which cosine cycles end, in ascending order, up to the first that is at
    least `total_steps`.
    """
    ends: list[int] = []
    epochs, length = 0.0, schedule.cycle_epochs
    while not ends or ends[-1] < total_steps:
        epochs, length = epochs + length, length * schedule.growth
        # Rounding before `ceil` removes floating-point errors: 3 × 0.1 exceeds 0.3. A cycle has at
        # least one step.
        ends.append(
            max(math.ceil(round(epochs * steps_per_epoch, 6)), (ends[-1] if ends else 0) + 1)
        )
    return ends


def after_evaluation(
    plateau: Plateau, factor: float, waited: int, gained: bool
) -> tuple[float, int]:
    """Update the plateau schedule after an evaluation.

    Args:
        plateau: the schedule.
        factor: current factor of the learning rate.
        waited: number of evaluations since the best score or the last reduction.
        gained: True if this evaluation's score is a new best.

    Returns:
        The new `factor`, rounded to float32, and the new `waited`.
    """
    waited = 0 if gained else waited + 1
    if waited < plateau.patience:
        return factor, waited
    return float(np.float32(max(factor * plateau.factor, plateau.lowest))), 0


def _constant(step: tf.Tensor, *, highest: float) -> tf.Tensor:
    return tf.constant(highest)


def _restarts(step: tf.Tensor, *, highest: float, final: float, ends: list[int]) -> tf.Tensor:
    # Loshchilov and Hutter 2016, equation 5. Keras's CosineDecayRestarts isn't used: it computes
    # the cycle by a float32 logarithm, so some steps at the ends of cycles, where snapshots are
    # taken, get the wrong cycle.
    step = tf.cast(step, tf.int64)
    bounds = tf.constant([0, *ends], tf.int64)
    cycle = tf.minimum(tf.reduce_sum(tf.cast(step >= bounds, tf.int32)), len(ends)) - 1
    share = tf.cast(step - bounds[cycle], tf.float32) / tf.cast(
        bounds[cycle + 1] - bounds[cycle], tf.float32
    )
    return highest * (final + (1 - final) * 0.5 * (1 + tf.cos(math.pi * tf.minimum(share, 1.0))))


def _cyclic(
    step: tf.Tensor, *, highest: float, lowest: float, length: float, shrink: float
) -> tf.Tensor:
    # Smith 2015, section 3.1: "triangular", or "triangular2" with `shrink`. The paper's "stepsize"
    # is half a cycle.
    cycles = tf.cast(step, tf.float32) / length
    cycle = tf.floor(cycles)
    height = 1 - tf.abs(2 * (cycles - cycle) - 1)
    return highest * (lowest + (1 - lowest) * height * shrink**cycle)
