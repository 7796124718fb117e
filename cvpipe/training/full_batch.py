"""Training on the whole split at once, for small problems: SciPy's L-BFGS moves the weights, the
graph gives loss and gradient.

Dimensions: P trainable numbers of the model, b examples in a batch.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from types import ModuleType
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
from cvpipe.training.milestones import Milestones
from cvpipe.training.progress import Progress
from cvpipe.training.setup import Setup
from cvpipe.training.step import gradients_of, regularization
from cvpipe.training.strategy import uses_xla

# A fall of the loss that is less than this, relative to a loss above 1, can't be told from the
# rounding of float32.
SMALLEST_FALL = 1e-8
# Prepared images up to this size stay in memory from the first pass on; more are read and prepared
# again for each.
KEPT_BYTES = 2**30
# What SciPy's L-BFGS-B says of its end. Where it finds no lower point although the gradient isn't
# zero, float32 resolves none.
CONVERGED, NO_LOWER_POINT = 0, 2


class Objective:
    """The mean loss on every readable example of a source, and its gradient, as a function of all
    trainable weights.
    """

    def __init__(
        self,
        model: keras.Model,
        task: ModuleType,
        config: Config,
        source: Source,
        quarantine: Quarantine,
    ):
        self._variables, self._quarantine = model.trainable_variables, quarantine
        self.losses: dict[str, float] = {}
        # A person may ask for several views of an image in evaluation; what is learned from is one.
        batches = evaluation_batches(
            source, config.with_one_view(), task.encode, quarantine, config.train.batch_size
        )
        small = (
            4 * len(source) * math.prod([*config.prepare.size, config.prepare.channels])
            <= KEPT_BYTES
        )
        self._batches = batches.cache() if small else batches

        @tf.function(jit_compile=uses_xla(config, tf.distribute.get_strategy()))
        @tf.autograph.experimental.do_not_convert
        def sums(batch: dict[str, Any]) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
            weight = tf.cast(batch["weight"], tf.float64)
            with tf.GradientTape() as tape:
                # As in evaluation: a BatchNorm that came with frozen weights keeps its statistics.
                losses = task.loss(model(batch["image"], training=False), batch["targets"], config)
                losses = {
                    name: tf.reduce_sum(tf.cast(loss, tf.float64) * weight)
                    for name, loss in losses.items()
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
        """The model's trainable weights, float64 [P]."""
        return _flat(self._variables)

    def assign(self, weights: np.ndarray) -> None:
        """Puts weights [P] in the model, rounded to float32."""
        ends = np.cumsum([np.prod(variable.shape, dtype=int) for variable in self._variables])
        for variable, values in zip(self._variables, np.split(weights, ends[:-1]), strict=True):
            variable.assign(values.reshape(variable.shape).astype(np.float32))

    def __call__(
        self, weights: np.ndarray, between: Callable[[], None] = lambda: None
    ) -> tuple[float, np.ndarray]:
        """Loss and gradient, float64 [P], at weights [P], summed in float64; `losses` then has the
        loss's parts and their sum.

        Args:
            between: called before each batch; what it raises ends the pass.

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


class FullBatch:
    """One training by L-BFGS (Liu and Nocedal 1989), from wherever its state is to its end; a step
    is an iteration, an epoch too.
    """

    def __init__(self, setup: Setup, section: Lbfgs):
        if setup.strategy.num_replicas_in_sync > 1:
            raise ConfigError("optimizer.kind: lbfgs works on one device; set train.strategy: one")
        self.setup, self.section = setup, section
        self.config, self.run, self.state, self.predict = (
            setup.config,
            setup.run,
            setup.state,
            setup.predict,
        )
        source = setup.splits["train"]
        self.objective = Objective(
            self.state.model, setup.task, self.config, source, setup.quarantines["train"]
        )
        self.progress = Progress(self.config.train.epochs, len(source), 1)

    def train(self) -> str:
        """Trains to the end.

        Returns:
            Why it ended: "finished", "finished: converged" or "stopped early".

        Raises:
            Interrupted: asked to stop; everything but L-BFGS's estimate of the curvature is saved.
            UserError: the loss is not finite, or too many records are bad.
        """
        self.milestones = Milestones(self.setup, self.progress)
        reached, epochs = int(self.state.step), self.config.train.epochs
        if reached == 0:
            self.milestones.showing.start(self.predict)
        if not (self.state.converged or self.milestones.patience_is_over() or reached >= epochs):
            if reached:
                self.progress.note(
                    f"resuming at iteration {reached} of {epochs}; the curvature, which can't be"
                    " saved, is estimated anew"
                )
            with stop_on_signals() as stop:
                self._minimize(stop)
        self.milestones.showing.close()
        if self.state.converged:
            return "finished: converged"
        return "stopped early" if int(self.state.step) < epochs else "finished"

    def _minimize(self, stop: threading.Event) -> None:
        iterate = self.objective.weights()
        began = time.monotonic()

        def stop_if_asked() -> None:
            if stop.is_set():
                # The model has whatever weights a line search was trying.
                self.objective.assign(iterate)
                self.milestones.save("last")
                raise Interrupted(
                    f"stopped at iteration {int(self.state.step)} of {self.config.train.epochs};"
                    " its weights are saved. The same command goes on from them"
                )

        def loss_and_gradient(weights: np.ndarray) -> tuple[float, np.ndarray]:
            loss, gradient = self.objective(weights, stop_if_asked)
            if not (np.isfinite(loss) and np.isfinite(gradient).all()):
                self.objective.assign(iterate)
                raise self._not_finite()
            return loss, gradient

        def iterated(intermediate_result: scipy.optimize.OptimizeResult) -> None:
            nonlocal iterate, began
            iterate = intermediate_result.x.copy()
            self.objective.assign(iterate)
            self.state.step.assign_add(1)
            self._take_in(time.monotonic() - began)
            began = time.monotonic()
            if self.milestones.patience_is_over():
                raise StopIteration
            stop_if_asked()

        result = scipy.optimize.minimize(
            loss_and_gradient,
            iterate,
            jac=True,
            method="L-BFGS-B",
            callback=iterated,
            options={
                "maxcor": self.section.history,
                "maxiter": self.config.train.epochs - int(self.state.step),
                "maxfun": 10**9,
                "ftol": SMALLEST_FALL,
            },
        )
        if result.status in (CONVERGED, NO_LOWER_POINT):
            self.objective.assign(iterate)
            self.state.converged = True
            self.progress.note(
                f"converged after {int(self.state.step)} iterations"
                f" ({result.message.strip().lower()})"
            )
            if not self._evaluation_is_due():
                self.milestones.evaluate(int(self.state.step))
            self.milestones.save("last")

    def _take_in(self, seconds: float) -> None:
        """Shows an iteration, and evaluates and saves where that is due."""
        step = int(self.state.step)
        rate = self.progress.update(step, self.objective.losses["loss"], 1, seconds, 0.0)
        self.milestones.showing.trained(
            step, step, 1, {**self.objective.losses, "images_per_second": rate["images_per_second"]}
        )
        if self._evaluation_is_due():
            self.milestones.evaluate(step)
            self.milestones.save("last")
        elif self.milestones.checkpoint_is_due():
            self.milestones.save("last")

    def _evaluation_is_due(self) -> bool:
        """Whether the iteration just done is one of those after which there is an evaluation."""
        step = int(self.state.step)
        return step > 0 and (
            step % self.config.train.evaluate_every == 0 or step == self.config.train.epochs
        )

    def _not_finite(self) -> UserError:
        last = self.run.checkpoint("last")
        kept = (
            f"{last} still holds the last good state"
            if last.exists()
            else "no checkpoint was written"
        )
        return UserError(
            f"the loss is not finite near the weights of iteration {int(self.state.step)}; {kept}."
            " Start with a model.initializer of smaller weights, add loss.l2, or use another"
            " optimizer.kind"
        )


def _flat(values: list[Any]) -> np.ndarray:
    return np.concatenate([value.numpy().ravel() for value in values]).astype(np.float64)
