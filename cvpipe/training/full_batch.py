"""Full-batch training for small problems: SciPy's L-BFGS on loss and gradient of the whole split.

Dimensions: P trainable parameters of the model, b examples in a batch.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import scipy.optimize
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.optimizer import Lbfgs
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.data.stream import evaluation_batches
from cvpipe.errors import ConfigError, Interrupted, UserError
from cvpipe.interrupt import stop_on_signals
from cvpipe.tasks.task import Task
from cvpipe.training.parts import Parts
from cvpipe.training.step import gradients_of, regularization, step_seed
from cvpipe.training.strategy import uses_xla
from cvpipe.training.validation import patience_is_over, validate

# Training has converged if the loss falls by less than this in an iteration: float32 rounds smaller
# differences away. For losses above 1, the fall is relative to the loss.
SMALLEST_FALL = 1e-8
# Prepared images up to this total size are kept in memory; larger splits are prepared again for
# each pass.
KEPT_BYTES = 2**30
# Status of SciPy's L-BFGS-B. NO_LOWER_POINT with a nonzero gradient means that float32 can't
# resolve a lower loss.
CONVERGED, NO_LOWER_POINT = 0, 2


class Objective:
    """Mean loss over all readable examples of a source, and the gradient of the mean loss, as a
    function of all trainable weights.
    """

    def __init__(
        self,
        network: keras.Model,
        task: Task,
        config: Config,
        source: Source,
        quarantine: Quarantine,
    ):
        self._variables, self._quarantine = network.trainable_variables, quarantine
        [update] = task.updates
        # Run the network as in evaluation, so that BatchNorm uses its fixed statistics.
        networks = {"network": lambda image, training: network(image, training=False)}
        self.losses: dict[str, float] = {}
        # Training uses one view, even if evaluation uses several.
        batches = evaluation_batches(
            source, config.with_one_view(), task.encode, quarantine, config.train.batch_size
        )
        small = (
            4 * len(source) * math.prod([*config.prepare.size, config.prepare.channels])
            <= KEPT_BYTES
        )
        self._batches = list(batches) if small else batches

        seed = step_seed(config, tf.constant(0))

        @tf.function(jit_compile=uses_xla(config, tf.distribute.get_strategy()))
        @tf.autograph.experimental.do_not_convert
        def sums(batch: dict[str, Any]) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
            weight = tf.cast(batch["weight"], tf.float64)
            with tf.GradientTape() as tape:
                losses = {
                    name: tf.reduce_sum(tf.cast(loss, tf.float64) * weight)
                    for name, loss in update.losses(networks, batch, seed).items()
                }
                total = tf.add_n(list(losses.values()))
            return losses, gradients_of(total, self._variables, tape)

        @tf.function
        @tf.autograph.experimental.do_not_convert
        def penalties() -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
            with tf.GradientTape() as tape:
                added = regularization(config, self._variables)
                total = tf.add_n([tf.constant(0.0), *added.values()])
            return added, gradients_of(total, self._variables, tape)

        self._sums, self._penalties = sums, penalties

    def weights(self) -> np.ndarray:
        """Return the model's trainable parameters, float64 [P]."""
        return _flat(self._variables)

    def assign(self, weights: np.ndarray) -> None:
        """Assign weights [P] to the model, rounded to float32."""
        ends = np.cumsum([np.prod(variable.shape, dtype=int) for variable in self._variables])
        for variable, values in zip(self._variables, np.split(weights, ends[:-1]), strict=True):
            variable.assign(values.reshape(variable.shape).astype(np.float32))

    def __call__(
        self, weights: np.ndarray, between: Callable[[], None] = lambda: None
    ) -> tuple[float, np.ndarray]:
        """Return the loss and its gradient, float64 [P], at weights [P]. Sums are in float64. Sets
        `losses` to the parts of the loss and their sum.

        Args:
            weights: values of all trainable parameters.
            between: called before each batch; may raise an exception to end the pass.

        Raises:
            DataError: more records are bad than the pipeline allows.
        """
        self.assign(weights)
        losses: dict[str, float] = {}
        gradient, examples = np.zeros_like(weights, np.float64), 0.0
        for batch in self._batches:
            between()
            parts, gradients = self._sums(batch)
            losses = {name: losses.get(name, 0.0) + float(part) for name, part in parts.items()}
            gradient += _flat(gradients)
            examples += float(tf.reduce_sum(batch["weight"]))
        self._quarantine.check()
        added, gradients = self._penalties()
        losses = {name: loss / examples for name, loss in losses.items()} | {
            name: float(value) for name, value in added.items()
        }
        self.losses = {**losses, "loss": sum(losses.values())}
        return self.losses["loss"], gradient / examples + _flat(gradients)


def check_full_batch(task: Task, strategy: tf.distribute.Strategy) -> None:
    """Raise ConfigError if the task or the devices don't support L-BFGS."""
    if strategy.num_replicas_in_sync > 1:
        raise ConfigError("optimizer.kind: lbfgs works only on one device; set train.strategy: one")
    if task.frozen:
        raise ConfigError(
            "train.teacher can't be combined with optimizer.kind: lbfgs; choose another optimizer"
        )
    if [update.moves for update in task.updates] != [("network",)]:
        raise ConfigError(
            "optimizer.kind: lbfgs minimizes one loss of one network, but this task has several"
            " updates or networks; choose another optimizer"
        )


def train_full_batch(parts: Parts) -> str:
    """Train by L-BFGS (Liu and Nocedal 1989) from the current state to the end. One iteration
    counts as one step and one epoch.

    Returns:
        The reason of the end: "finished", "finished: converged" or "stopped early".

    Raises:
        Interrupted: stopped by a signal. Everything except L-BFGS's estimate of the curvature is
            saved.
        UserError: the loss is not finite, or too many records are bad.
    """
    state, epochs = parts.state, parts.config.train.epochs
    reached = int(state.step)
    if not (state.converged or patience_is_over(parts.config, state) or reached >= epochs):
        if reached:
            parts.log.note(
                f"resuming at iteration {reached} of {epochs}; the curvature, which can't be"
                " saved, is estimated again"
            )
        with stop_on_signals() as stop:
            _minimize(parts, stop)
    if state.converged:
        return "finished: converged"
    return "stopped early" if int(state.step) < epochs else "finished"


def _minimize(parts: Parts, stop: threading.Event) -> None:
    state, config = parts.state, parts.config
    objective = Objective(
        state.networks["network"],
        parts.task,
        config,
        parts.splits["train"],
        parts.quarantines["train"],
    )
    iterate = objective.weights()
    began = time.monotonic()

    def stop_if_asked() -> None:
        if stop.is_set():
            # The network has trial weights of a line search, so restore the last iteration's
            # weights.
            objective.assign(iterate)
            parts.checkpointer.save("last")
            raise Interrupted(
                f"stopped at iteration {int(state.step)} of {config.train.epochs};"
                " its weights are saved. The same command continues the training"
            )

    def loss_and_gradient(weights: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = objective(weights, stop_if_asked)
        if not (np.isfinite(loss) and np.isfinite(gradient).all()):
            objective.assign(iterate)
            raise UserError(
                f"the loss is not finite near the weights of iteration {int(state.step)};"
                f" {parts.run.kept()}. Choose a model.initializer with smaller weights, add"
                " loss.l2, or choose another optimizer.kind"
            )
        return loss, gradient

    def iterated(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        nonlocal iterate, began
        iterate = intermediate_result.x.copy()
        objective.assign(iterate)
        state.step.assign_add(1)
        _after_iteration(parts, objective.losses, time.monotonic() - began)
        began = time.monotonic()
        if patience_is_over(config, state):
            raise StopIteration
        stop_if_asked()

    assert isinstance(config.optimizer, Lbfgs)
    result = scipy.optimize.minimize(
        loss_and_gradient,
        iterate,
        jac=True,
        method="L-BFGS-B",
        callback=iterated,
        options={
            "maxcor": config.optimizer.history,
            "maxiter": config.train.epochs - int(state.step),
            "maxfun": 10**9,
            "ftol": SMALLEST_FALL,
        },
    )
    if result.status in (CONVERGED, NO_LOWER_POINT):
        objective.assign(iterate)
        state.converged = True
        parts.log.note(
            f"converged after {int(state.step)} iterations ({result.message.strip().lower()})"
        )
        if not _evaluation_is_due(parts):
            validate(parts, int(state.step))
        parts.checkpointer.save("last")
        _show(parts)


def _after_iteration(parts: Parts, losses: Mapping[str, float], seconds: float) -> None:
    """Log an iteration. If an evaluation or a checkpoint is due, evaluate or save."""
    step = int(parts.state.step)
    parts.log.trained(step, 1, losses, seconds, epoch=step)
    if _evaluation_is_due(parts):
        validate(parts, step)
        parts.checkpointer.save("last")
        _show(parts)
    elif parts.checkpointer.is_due():
        parts.checkpointer.save("last")


def _show(parts: Parts) -> None:
    """Log pictures of the last evaluation, and histograms."""
    step = int(parts.state.step)
    parts.log.draw(step)
    parts.log.look_into(step, parts.state.networks)


def _evaluation_is_due(parts: Parts) -> bool:
    """Return True if an evaluation is due after the current iteration."""
    step, train = int(parts.state.step), parts.config.train
    return step > 0 and (step % train.evaluate_every == 0 or step == train.epochs)


def _flat(values: list[Any]) -> np.ndarray:
    return np.concatenate([value.numpy().ravel() for value in values]).astype(np.float64)
