"""The training step, and a graph that runs many steps per call.

    run_steps            loop in the graph: for each step, wait for a batch and run train_step
      train_step         on every replica: all updates of the task (preflight compiles this)
        _move            one update: losses, gradients, optimizer
          _accumulated   losses and gradients, for one part of the examples at a time

Dimensions: b examples in a replica's share of the batch.

With `train.accumulate` = n, a replica processes its examples in n equal parts. Part i has the
examples i, i + n, i + 2n, …, so part i of all replicas together always has the same examples.
BatchNorm's input therefore does not depend on the number of replicas.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import keras
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.example import Batch
from cvpipe.losses.kernels import l1_of_kernels, l2_of_kernels
from cvpipe.tasks.task import Task, Tensors, Update
from cvpipe.training.optimizers import moved_variables
from cvpipe.training.state import State
from cvpipe.training.strategy import has_all_reduce, uses_xla


class Outcome(TypedDict):
    """Result of a call that runs several steps. All values are scalars."""

    steps: tf.Tensor
    """int32: number of steps done."""
    losses: Tensors
    """float32: for each part of the loss and for the total "loss", the sum over the steps."""
    finite: tf.Tensor
    """bool: True if the last loss was finite."""
    waited: tf.Tensor
    """float64: seconds spent waiting for input."""


# Maps a part of a batch and a seed to its contributions to the losses and to the gradients.
Learn = Callable[[Batch, tf.Tensor], tuple[Tensors, list[tf.Tensor]]]
# Maps a replica's part of a batch and the step's seed to its contributions to the losses.
TrainStep = Callable[[Batch, tf.Tensor], Tensors]
RunSteps = Callable[[Any, tf.Tensor], Outcome]


def make_train_step(state: State, task: Task, config: Config, replicas: int) -> TrainStep:
    """Return a training step for one replica: all updates of the task with their optimizers.

    Args:
        state: networks and optimizers, which the step updates. `state.step` doesn't change.
        task: the task, whose updates are applied in order.
        config: configures mixing, accumulation, clipping, L1 and L2 terms, and precision.
        replicas: number of replicas that share each batch.
    """

    @tf.autograph.experimental.do_not_convert
    def train_step(batch: Batch, seed: tf.Tensor) -> Tensors:
        # Wait for the batch. Otherwise the optimizer's counter and dropout's seeds would advance
        # even if the batch can't be read.
        with tf.control_dependencies(tf.nest.flatten(batch)):
            losses: list[Tensors] = []
            for update in task.updates:
                for _ in range(update.times):
                    own = tf.random.fold_in(seed, len(losses)) if losses else seed
                    losses.append(_move(update, state, batch, own, config, replicas))
            return _summed(losses)

    return train_step


def make_run_steps(
    state: State, task: Task, config: Config, strategy: tf.distribute.Strategy
) -> RunSteps:
    """Build the training graph.

    Args:
        state: networks, optimizers and step. `state.step` counts each completed step, even if a
            later step of the same call raises an error.
        task: the task, whose updates are applied in order.
        config: configures mixing, accumulation, clipping, L1 and L2 terms, and precision.
        strategy: distributes each batch over its replicas.

    Returns:
        A function of a (distributed) iterator of batches and a number of steps, int32 scalar. The
        function returns early after a step whose loss is not finite.
    """
    replicas = strategy.num_replicas_in_sync
    train_step = make_train_step(state, task, config, replicas)
    if not has_all_reduce(strategy):
        # A separate tf.function completes all its variable updates before its outputs are used.
        # With a strategy for several replicas, even if there is only one, the step can't be a
        # separate function, because the all-reduce leaves the replica's graph.
        train_step = tf.function(train_step, jit_compile=uses_xla(config, strategy))

    @tf.function(reduce_retracing=True)
    def run_steps(batches: Any, count: tf.Tensor) -> Outcome:
        # The structure of loop variables must be known before the loop, but the names of the losses
        # are known only after a step has been traced. So the sums are a vector that begins with
        # length 1 and grows by broadcasting.
        names: list[str] = []
        sums = tf.zeros([1])

        @tf.autograph.experimental.do_not_convert
        def stacked_losses(batch: Batch, seed: tf.Tensor) -> tf.Tensor:
            # Replicas exchange one vector instead of each loss.
            losses = train_step(batch, seed)
            names[:] = losses
            return tf.stack(list(losses.values()))

        done, finite, waited = tf.constant(0), tf.constant(True), tf.constant(0.0, tf.float64)
        while done < count and finite:
            tf.autograph.experimental.set_loop_options(
                shape_invariants=[(sums, tf.TensorShape([None]))]
            )
            asked = _now()
            with tf.control_dependencies([asked]):
                batch = next(batches)
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                waited += _now() - asked
            losses = strategy.run(stacked_losses, (batch, step_seed(config, state.step)))
            losses = strategy.reduce("SUM", losses, axis=None)
            sums = sums + losses
            finite = tf.math.is_finite(losses[names.index("loss")])
            # The next step waits until this one is complete.
            with tf.control_dependencies([losses]):
                state.step.assign_add(1)
                done += 1
        return {
            "steps": done,
            "losses": dict(
                zip(names, tf.unstack(tf.broadcast_to(sums, [len(names)])), strict=True)
            ),
            "finite": finite,
            "waited": waited,
        }

    return run_steps


def step_seed(config: Config, step: tf.Tensor) -> tf.Tensor:
    """Return the seed of a step's stateless random operations, int64 [2]."""
    return tf.stack([tf.constant(config.seed, tf.int64), tf.cast(step, tf.int64)])


def regularization(config: Config, variables: list[keras.Variable]) -> Tensors:
    """Return the configured L1 and L2 terms by name, float32 scalars, for the kernels in
    `variables`.
    """
    penalties = {"l1": (config.loss.l1, l1_of_kernels), "l2": (config.loss.l2, l2_of_kernels)}
    return {
        name: strength * size(variables) for name, (strength, size) in penalties.items() if strength
    }


def gradients_of(
    loss: tf.Tensor, variables: list[keras.Variable], tape: tf.GradientTape
) -> list[tf.Tensor]:
    """Return the gradient for each variable, zeros if the loss doesn't depend on it."""
    # `unconnected_gradients="zero"` fails for Keras variables.
    return [
        tf.zeros(v.shape) if g is None else g
        for g, v in zip(tape.gradient(loss, variables), variables, strict=True)
    ]


def _now() -> tf.Tensor:
    # tf.timestamp refuses to run when op determinism is enabled.
    return tf.ensure_shape(tf.numpy_function(time.monotonic, [], tf.float64), [])


def _move(
    update: Update, state: State, batch: Batch, seed: tf.Tensor, config: Config, replicas: int
) -> Tensors:
    """Apply one update and return this replica's contributions to its losses."""
    context = tf.distribute.get_replica_context()
    total = tf.maximum(context.all_reduce("SUM", tf.reduce_sum(batch["weight"])), 1.0)
    optimizer = state.optimizers[update.optimizer]
    variables = moved_variables(update, state.networks)
    # Gradients are summed over parts and replicas, so each part adds its share of the penalties.
    share = replicas * config.train.accumulate
    if replicas > 1:
        seed = tf.random.fold_in(seed, context.replica_id_in_sync_group)

    def learn_from(part: Batch, seed: tf.Tensor) -> tuple[Tensors, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            losses = {
                name: tf.reduce_sum(loss * part["weight"]) / total
                for name, loss in update.losses(state.networks, part, seed).items()
            }
            losses |= {
                name: penalty / share for name, penalty in regularization(config, variables).items()
            }
            losses["loss"] = tf.add_n(list(losses.values()))
            scaled = optimizer.scale_loss(losses["loss"])
        return losses, gradients_of(scaled, variables, tape)

    losses, gradients = _accumulated(batch, seed, learn_from, config, replicas)
    if replicas > 1 and _limits_gradients(config):
        # Average over the replicas here: Keras clips gradients and checks for overflow on each
        # replica before it sums the gradients.
        gradients = context.all_reduce("MEAN", gradients)
    optimizer.apply(gradients, variables)
    return losses


def _accumulated(
    batch: Batch, seed: tf.Tensor, learn_from: Learn, config: Config, replicas: int
) -> tuple[Tensors, list[tf.Tensor]]:
    """Sum losses and gradients over the parts of a replica's examples. Only the activations of one
    part are in memory at a time.
    """
    count = config.train.accumulate
    if count == 1:
        return learn_from(batch, seed)
    parts = tf.nest.map_structure(
        lambda values: tf.reshape(values, [-1, count, *values.shape[1:]]), batch
    )

    def part(number: tf.Tensor | int) -> Batch:
        return tf.nest.map_structure(lambda values: values[:, number], parts)

    def add(number: tf.Tensor | int, losses: Tensors, gradients: list[tf.Tensor]) -> Any:
        learned = learn_from(part(number), tf.random.fold_in(seed, number))
        return number + 1, *tf.nest.map_structure(tf.add, (losses, gradients), learned)

    if replicas == 1:
        sums = _zeros_like(learn_from, part(0), seed)
        return tf.while_loop(
            lambda number, *_: number < count, add, (0, *sums), parallel_iterations=1
        )[1:]
    # BatchNorm's collectives between replicas can't be inside a graph loop.
    sums = learn_from(part(0), tf.random.fold_in(seed, 0))
    for number in range(1, count):
        with tf.control_dependencies(tf.nest.flatten(sums)):
            _, *sums = add(number, *sums)
    return sums


def _zeros_like(learn_from: Learn, part: Batch, seed: tf.Tensor) -> Any:
    """Trace `learn_from`, and return zeros with the shapes of its results."""
    specs = tf.nest.map_structure(lambda value: tf.TensorSpec(value.shape, value.dtype), part)
    traced = tf.function(learn_from, autograph=False).get_concrete_function(
        specs, tf.TensorSpec([2], seed.dtype)
    )
    return tf.nest.map_structure(
        lambda spec: tf.zeros(spec.shape, spec.dtype), traced.structured_outputs
    )


def _summed(losses: Sequence[Mapping[str, tf.Tensor]]) -> Tensors:
    """Add up the losses of all updates by name."""
    total: Tensors = {}
    for own in losses:
        for name, value in own.items():
            total[name] = total[name] + value if name in total else value
    return total


def _limits_gradients(config: Config) -> bool:
    train = config.train
    return (
        train.clip_norm is not None
        or train.clip_value is not None
        or train.precision == "mixed_float16"
    )
