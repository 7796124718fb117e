"""A run's model and optimizer: fresh, or as a checkpoint has them."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.models.freeze import freeze
from cvpipe.runtime import seed_weights
from cvpipe.tasks import task_module
from cvpipe.training.loop import last_step_of
from cvpipe.training.optimizers import make_optimizer
from cvpipe.training.run import Run
from cvpipe.training.schedules import LearningRate, make_schedule
from cvpipe.training.state import State, read_checkpoint


def build_state(
    config: Config,
    classes: tuple[str, ...],
    examples: int,
    strategy: tf.distribute.Strategy | None = None,
) -> tuple[State, LearningRate]:
    """Return a fresh model, optimizer and learning-rate schedule: same seed, same bits."""
    strategy = strategy or tf.distribute.get_strategy()
    seed_weights(config)
    with strategy.scope():
        model = task_module(config.task).build_model(
            config, classes, synchronized=strategy.num_replicas_in_sync > 1
        )
        freeze(model, config.model)
        schedule = make_schedule(
            config,
            examples / config.train.batch_size,
            last_step_of(config.train.epochs, config, examples),
        )
        optimizer = make_optimizer(config, schedule, model.trainable_variables)
    # The step belongs to the process, not to a replica: the loop on the host counts it.
    return (
        State(model, optimizer, tf.Variable(0, dtype=tf.int64, name="step"), schedule.factor),
        schedule,
    )


def load_model(run: Run, checkpoint: Path) -> keras.Model:
    """The run's model at one of its checkpoints, with averaged weights where the pipeline keeps an
    average; raises like `load`.
    """
    state, _ = build_state(run.config, tuple(run.facts["classes"]), run.facts["examples"]["train"])
    state.restore(read_checkpoint(checkpoint), checkpoint)
    state.use_averaged_weights()
    return state.model
