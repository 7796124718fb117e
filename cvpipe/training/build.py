"""Construction of networks and optimizers, and loading of networks from checkpoints."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.runtime import seed_weights
from cvpipe.tasks import load_task
from cvpipe.tasks.task import Task
from cvpipe.training.checkpoints import read_checkpoint
from cvpipe.training.optimizers import make_optimizer, variables_by_optimizer
from cvpipe.training.run import Run
from cvpipe.training.schedules import LearningRate, last_step_of, make_schedule
from cvpipe.training.state import State
from cvpipe.training.thawing import NO_THAWING, Thawing, freeze_as_at, plan_thawing


def build_state(
    config: Config, task: Task, examples: int, strategy: tf.distribute.Strategy | None = None
) -> tuple[State, LearningRate]:
    """Build networks, optimizers and learning-rate schedule. The same seed gives the same bits.

    Args:
        config: the pipeline.
        task: the pipeline's task.
        examples: number of training examples.
        strategy: distribution strategy; None for the strategy in scope.
    """
    strategy = strategy or tf.distribute.get_strategy()
    seed_weights(config)
    with strategy.scope():
        networks = task.build(strategy.num_replicas_in_sync > 1)
        trained = {name: own for name, own in networks.items() if name not in task.frozen}
        thawing = plan_thawing(trained, config, examples)
        schedule = make_schedule(
            config,
            examples / config.train.batch_size,
            last_step_of(config.train.epochs, config, examples),
        )
    state = fresh_state(config, task, networks, schedule, strategy, thawing)
    # Freeze layers only now: the optimizer must be built for all variables that are ever trained.
    freeze_as_at(0, thawing, trained, config)
    return state, schedule


def fresh_state(
    config: Config,
    task: Task,
    networks: dict[str, keras.Model],
    schedule: LearningRate,
    strategy: tf.distribute.Strategy | None = None,
    thawing: Thawing = NO_THAWING,
) -> State:
    """Return the state before the first step, with new optimizers."""
    moved = variables_by_optimizer(task, networks)
    with (strategy or tf.distribute.get_strategy()).scope():
        optimizers = {
            name: make_optimizer(
                config, config.optimizers[name], schedule, variables, thawing.first_steps
            )
            for name, variables in moved.items()
        }
    # Create it outside the strategy's scope, because the loop on the host counts the steps.
    step = tf.Variable(0, dtype=tf.int64, name="step")
    return State(
        networks, optimizers, moved, step, schedule.factor, frozen=task.frozen, thawing=thawing
    )


def load_networks(run: Run, checkpoint: Path) -> dict[str, keras.Model]:
    """Return the networks of `load_state`. Raises the same errors."""
    return load_state(run, checkpoint).networks


def load_state(run: Run, checkpoint: Path) -> State:
    """Return the run's state at a checkpoint. Its networks have averaged weights if the pipeline
    has `train.ema`.

    Raises:
        DataError: there is no checkpoint, or it is damaged.
    """
    task = load_task(run.config, run.facts)
    state, _ = build_state(run.config, task, run.known["examples"]["train"])
    state.restore(read_checkpoint(checkpoint), checkpoint)
    state.use_averaged_weights()
    return state
