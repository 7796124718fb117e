"""From a configuration to a trained run, and from a run back to its model."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Union

import keras
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source, open_splits
from cvpipe.errors import ConfigError, DataError
from cvpipe.evaluation import Predict, evaluate, make_predict
from cvpipe.report import draw_batch, write_report
from cvpipe.runtime import seed_weights
from cvpipe.tasks import task_module
from cvpipe.training.loop import Loop, last_step_of
from cvpipe.training.optimizers import WarmUp, make_optimizer, make_schedule
from cvpipe.training.run import Run
from cvpipe.training.state import State, read_checkpoint
from cvpipe.training.strategy import check_batch_size, is_chief, make_strategy


class Trained(NamedTuple):
    """A run's model with the weights to use."""

    model: keras.Model
    predict: Predict
    task: ModuleType
    config: Config
    classes: tuple[str, ...]


def train(config: Config, folder: Path, fresh: bool = False) -> dict[str, Any]:
    """Trains a pipeline, or goes on with the run in `folder`, then scores it on the test split and writes the report.

    Returns:
        The test split's scores, and "run", "report", "steps" and "ended" (why).

    Raises:
        UserError: see `Loop.train`, `Run.start` and `open_splits`.
    """
    task = task_module(config.task)
    strategy = make_strategy(config.train.strategy)
    check_batch_size(config, strategy)
    splits = open_splits(config.data, config.seed)
    classes = splits["train"].classes
    run = Run(folder, writes=is_chief(strategy))
    facts = {"classes": classes, "examples": {name: len(split) for name, split in splits.items()}}
    resumed = run.start(config, facts, fresh)
    state, schedule = build_state(config, classes, len(splits["train"]), strategy)
    if resumed:
        state.restore(read_checkpoint(run.checkpoint("last")), run.checkpoint("last"))
    run.forget_metrics_after(int(state.step))
    predict = make_predict(state.model, task, config, classes)
    loop = Loop(config, run, task, splits, strategy, state, predict, schedule)
    ended = loop.train()
    if not run.writes:
        return {"run": str(folder), "steps": int(state.step), "ended": ended}
    scores = evaluate_run(run)
    return {**scores, "run": str(folder), "report": str(run.report_file), "steps": int(state.step), "ended": ended}


def build_state(
    config: Config, classes: tuple[str, ...], examples: int, strategy: Union[tf.distribute.Strategy, None] = None
) -> tuple[State, WarmUp]:
    """A fresh model and optimizer, the same bits for the same seed, and the learning-rate schedule."""
    strategy = strategy or tf.distribute.get_strategy()
    schedule = make_schedule(config, examples / config.train.batch_size, last_step_of(config.train.epochs, config, examples))
    seed_weights(config)
    with strategy.scope():
        model = task_module(config.task).build_model(config, classes, synchronized=strategy.num_replicas_in_sync > 1)
        optimizer = make_optimizer(config, schedule, model.trainable_variables)
    # The step belongs to the process, not to a replica: the loop on the host counts it.
    return State(model, optimizer, tf.Variable(0, dtype=tf.int64, name="step")), schedule


def load(run: Run, which: str = "best") -> Trained:
    """The run's model at a checkpoint, "best" or "last", with averaged weights where the pipeline keeps an average.

    Raises:
        DataError: there is no run or no checkpoint, or it is damaged.
    """
    config = run.config
    classes = tuple(run.facts["classes"])
    state, _ = build_state(config, classes, run.facts["examples"]["train"])
    file = run.checkpoint(which)
    state.restore(read_checkpoint(file), file)
    state.use_averaged_weights()
    task = task_module(config.task)
    return Trained(state.model, make_predict(state.model, task, config, classes), task, config, classes)


def open_split(config: Config, split: str, classes: tuple[str, ...]) -> Source:
    """One split of the data a model was trained on.

    Raises:
        ConfigError: the data has no such split.
        DataError: the data's classes are not those the model knows.
    """
    splits = open_splits(config.data, config.seed)
    if split not in splits:
        raise ConfigError(f"--split {split}: the data has {', '.join(splits)}")
    if splits[split].classes != classes:
        now = ", ".join(splits[split].classes)
        raise DataError(f"the data's classes changed: the model knows {', '.join(classes)}; the data has {now}. Restore the data")
    return splits[split]


def evaluate_run(run: Run, split: str = "test") -> dict[str, Any]:
    """Scores the checkpoint of a run that would be exported, on one split, and writes the report.

    Returns:
        What `evaluation.evaluate` does, and "split".
    """
    trained = load(run, run.config.export.checkpoint)
    source = open_split(trained.config, split, trained.classes)
    quarantine = Quarantine(source, split, trained.config.data.max_bad_share, run.quarantine_file)
    first: list[Any] = []

    def watch(batch: Any, predictions: Any) -> None:
        if not first:
            first[:] = [batch, predictions]

    scores = evaluate(trained.predict, source, trained.task, trained.config, quarantine=quarantine, watch=watch)
    answers = draw_batch(trained.task, first[0], first[1], trained.config, trained.classes)
    write_report(run, trained.task, split, scores, answers)
    return {**scores, "split": split}
