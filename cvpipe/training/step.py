"""The train step, and many of them in one call of a graph.

Dimensions: b examples in a replica's share of the batch.

A replica may work through its share in n equal parts, `train.accumulate`. Part i has the examples
i, i + n, i + 2n …: so the parts of all replicas together are the same sets of examples, and
BatchNorm sees the same, whatever the number of replicas.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.losses.kernels import l1_of_kernels, l2_of_kernels
from cvpipe.training.strategy import uses_xla

# What a call of many steps says of them: see `make_run_steps`.
Outcome = dict[str, Any]
# A part of a batch to its share of each loss, and its gradients.
Learn = Callable[[dict[str, Any]], tuple[dict[str, tf.Tensor], list[tf.Tensor]]]


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
        A function of a (distributed) iterator of batches and a number of steps, int32 scalar. It
        stops after the first
        step whose loss is not finite. It returns scalars: "steps" done, int32; "losses", each
        part's sum over the steps
        and their "loss"; "finite", whether the last loss was; "waited", the seconds spent waiting
        for input.
        `step` counts each step as soon as it is done, also where an error ends the call.
    """
    replicas = strategy.num_replicas_in_sync
    names = [
        *task.loss_names(config),
        *(name for name in ("l1", "l2") if getattr(config.loss, name)),
        "loss",
    ]

    @tf.autograph.experimental.do_not_convert
    def train_step(batch: dict[str, Any]) -> dict[str, tf.Tensor]:
        # The optimizer's count and dropout's state need no batch; without this they would go on
        # where one can't be read.
        with tf.control_dependencies(tf.nest.flatten(batch)):
            return update(batch)

    def update(batch: dict[str, Any]) -> dict[str, tf.Tensor]:
        context = tf.distribute.get_replica_context()
        total = tf.maximum(context.all_reduce("SUM", tf.reduce_sum(batch["weight"])), 1.0)
        losses, gradients = _accumulated(
            batch,
            lambda part: learn_from(part, total),
            names,
            model.trainable_variables,
            config,
            replicas,
        )
        if replicas > 1 and _limits_gradients(config):
            # Keras would clip, and look for overflow, on each replica before it sums over replicas.
            gradients = context.all_reduce("MEAN", gradients)
        optimizer.apply(gradients, model.trainable_variables)
        return losses

    def learn_from(
        part: dict[str, Any], total: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
        variables = model.trainable_variables
        with tf.GradientTape() as tape:
            outputs = model(part["image"], training=True)
            losses = {
                name: tf.reduce_sum(loss * part["weight"]) / total
                for name, loss in _losses(outputs, part, task, config).items()
            }
            # Each part contributes its share, since gradients are summed over parts and replicas.
            share = replicas * config.train.accumulate
            losses |= {
                name: penalty / share for name, penalty in regularization(config, variables).items()
            }
            losses["loss"] = tf.add_n(list(losses.values()))
            scaled = optimizer.scale_loss(losses["loss"])
        return losses, gradients_of(scaled, variables, tape)

    if replicas == 1:
        # As a function of its own, everything it changes is changed before what waits for it goes
        # on: see below. With several replicas it can't be one, since the exchange of gradients
        # leaves the replica.
        train_step = tf.function(train_step, jit_compile=uses_xla(config, strategy))

    @tf.function(reduce_retracing=True)
    def run_steps(batches: Any, count: tf.Tensor) -> Outcome:
        # A graph's loop must know what it carries before its first step.
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


def regularization(config: Config, variables: list[tf.Variable]) -> dict[str, tf.Tensor]:
    """What is added to the loss for the size of the kernels among `variables`, by name: float32
    scalars, where asked for.
    """
    penalties = {"l1": (config.loss.l1, l1_of_kernels), "l2": (config.loss.l2, l2_of_kernels)}
    return {
        name: strength * size(variables) for name, (strength, size) in penalties.items() if strength
    }


def gradients_of(
    loss: tf.Tensor, variables: list[keras.Variable], tape: tf.GradientTape
) -> list[tf.Tensor]:
    """The gradient for each variable; zeros where the loss doesn't depend on it."""
    # TensorFlow's own zeros fail for Keras's variables.
    return [
        tf.zeros(v.shape) if g is None else g
        for g, v in zip(tape.gradient(loss, variables), variables, strict=True)
    ]


def _losses(
    outputs: dict[str, tf.Tensor], batch: dict[str, Any], task: Any, config: Config
) -> dict[str, tf.Tensor]:
    """The named parts of the loss, each float32 [b]; of mixed examples, shares of two examples'
    losses.
    """
    losses = task.loss(outputs, batch["targets"], config)
    if not config.mix:
        return losses
    partners, share = task.loss(outputs, batch["partner_targets"], config), batch["share"]
    return {name: share * loss + (1 - share) * partners[name] for name, loss in losses.items()}


def _accumulated(
    batch: dict[str, Any],
    learn_from: Learn,
    names: list[str],
    variables: list[keras.Variable],
    config: Config,
    replicas: int,
) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
    """The sums of losses and gradients over the parts of a replica's share of the batch, one part
    in memory at a time.
    """
    count = config.train.accumulate
    if count == 1:
        return learn_from(batch)
    parts = tf.nest.map_structure(
        lambda values: tf.reshape(values, [-1, count, *values.shape[1:]]), batch
    )

    def add(
        number: tf.Tensor | int, losses: dict[str, tf.Tensor], gradients: list[tf.Tensor]
    ) -> Any:
        part = tf.nest.map_structure(lambda values: values[:, number], parts)
        return number + 1, *tf.nest.map_structure(tf.add, (losses, gradients), learn_from(part))

    sums = {name: tf.constant(0.0) for name in names}, [tf.zeros(v.shape) for v in variables]
    if replicas == 1:
        return tf.while_loop(
            lambda number, *_: number < count, add, (0, *sums), parallel_iterations=1
        )[1:]
    # What replicas exchange for BatchNorm can't lie in a graph's loop.
    for number in range(count):
        with tf.control_dependencies(tf.nest.flatten(sums)):
            _, *sums = add(number, *sums)
    return sums


def _limits_gradients(config: Config) -> bool:
    train = config.train
    return (
        train.clip_norm is not None
        or train.clip_value is not None
        or train.precision == "mixed_float16"
    )
