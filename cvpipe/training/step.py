"""The train step, and many of them in one call of a graph."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.losses import l2_of_kernels
from cvpipe.training.strategy import uses_xla

# What a call of many steps says of them: see `make_run_steps`.
Outcome = dict[str, Any]


def make_run_steps(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    task: Any,
    config: Config,
    strategy: tf.distribute.Strategy,
    step: tf.Variable,
) -> Callable[[Any, tf.Tensor], Outcome]:
    """Builds the graph that trains.

    Returns:
        A function of a (distributed) iterator of batches and a number of steps, int32 scalar. It stops after the first
        step whose loss is not finite. It returns scalars: "steps" done, int32; "losses", each part's sum over the steps
        and their "loss"; "finite", whether the last loss was; "waited", the seconds spent waiting for input.
        `step` counts each step as soon as it is done, also where an error ends the call.
    """

    @tf.autograph.experimental.do_not_convert
    def train_step(batch: dict[str, Any]) -> dict[str, tf.Tensor]:
        # The optimizer's count and dropout's state need no batch; without this they would go on where one can't be read.
        with tf.control_dependencies(tf.nest.flatten(batch)):
            return update(batch)

    def update(batch: dict[str, Any]) -> dict[str, tf.Tensor]:
        variables = model.trainable_variables
        with tf.GradientTape() as tape:
            outputs = model(batch["image"], training=True)
            losses = _averaged(task.loss(outputs, batch["targets"], config), batch["weight"])
            if config.loss.l2:
                # Each replica contributes its share, since gradients are summed over replicas.
                losses["l2"] = config.loss.l2 * l2_of_kernels(variables) / strategy.num_replicas_in_sync
            losses["loss"] = tf.add_n(list(losses.values()))
            scaled = optimizer.scale_loss(losses["loss"])
        optimizer.apply(tape.gradient(scaled, variables), variables)
        return losses

    if strategy.num_replicas_in_sync == 1:
        # As a function of its own, everything it changes is changed before what waits for it goes on: see below. With
        # several replicas it can't be one, since the exchange of gradients leaves the replica.
        train_step = tf.function(train_step, jit_compile=uses_xla(config, strategy))
    # A graph's loop must know what it carries before its first step.
    names = [*task.LOSSES, *(["l2"] if config.loss.l2 else []), "loss"]

    @tf.function(reduce_retracing=True)
    def run_steps(batches: Any, count: tf.Tensor) -> Outcome:
        sums = {name: tf.constant(0.0) for name in names}
        done, finite, waited = tf.constant(0), tf.constant(True), tf.constant(0.0, tf.float64)
        while done < count and finite:
            asked = _now()
            with tf.control_dependencies([asked]):
                batch = next(batches)
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                waited += _now() - asked
            losses = strategy.run(train_step, (batch,))
            losses = {name: strategy.reduce("SUM", losses[name], axis=None) for name in names}
            sums = {name: sums[name] + losses[name] for name in names}
            finite = tf.math.is_finite(losses["loss"])
            # Likewise the next step waits until this one is whole.
            with tf.control_dependencies(tf.nest.flatten(losses)):
                step.assign_add(1)
                done += 1
        return {"steps": done, "losses": sums, "finite": finite, "waited": waited}

    return run_steps


def _now() -> tf.Tensor:
    # tf.timestamp refuses to run when op determinism is enabled.
    return tf.ensure_shape(tf.numpy_function(time.monotonic, [], tf.float64), [])


def _averaged(parts: dict[str, tf.Tensor], weight: tf.Tensor) -> dict[str, tf.Tensor]:
    """This replica's share of the weighted mean over the global batch, for each part float32 [b]."""
    replicas = tf.distribute.get_replica_context()
    total = tf.maximum(replicas.all_reduce("SUM", tf.reduce_sum(weight)), 1.0)
    return {name: tf.reduce_sum(part * weight) / total for name, part in parts.items()}
