"""From a configuration to a trained run, and from a run back to its model."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import keras

from cvpipe.config import Config
from cvpipe.config.optimizer import Lbfgs, Plateau
from cvpipe.config_file import with_data
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source, open_splits
from cvpipe.errors import ConfigError, DataError
from cvpipe.evaluation import Predict, evaluate, make_predict
from cvpipe.tasks import task_module
from cvpipe.training.build import build_state, load_model
from cvpipe.training.full_batch import FullBatch
from cvpipe.training.loop import Loop
from cvpipe.training.report import FirstExamples, write_report
from cvpipe.training.run import Run
from cvpipe.training.setup import Setup
from cvpipe.training.start import start
from cvpipe.training.state import read_checkpoint
from cvpipe.training.strategy import check_batch_size, chiefs_word, is_chief, make_strategy

log = logging.getLogger(__name__)


class Trained(NamedTuple):
    """The model of a run, or the models of an ensemble, with the weights to use."""

    models: tuple[keras.Model, ...]
    predict: Predict
    task: ModuleType
    config: Config
    classes: tuple[str, ...]


def train(config: Config, folder: Path, fresh: bool = False) -> dict[str, Any]:
    """Trains a pipeline, or goes on with the run in `folder`, then scores it on the test split and
    writes the report.

    Returns:
        The test split's scores, and "run", "report", "steps" and "ended" (why).

    Raises:
        UserError: see `Loop.train`, `FullBatch.train`, `Run.start` and `open_splits`.
    """
    task = task_module(config.task)
    strategy = make_strategy(config.train.strategy)
    check_batch_size(config, strategy)
    splits = open_splits(config.data)
    classes = splits["train"].classes
    if "validation" not in splits:
        if config.train.early_stopping:
            raise ConfigError(
                "train.early_stopping: needs a validation split; raise data.validation, or leave"
                " early_stopping out"
            )
        if isinstance(config.schedule, Plateau):
            raise ConfigError(
                "schedule.kind: plateau needs a validation split; raise data.validation, or choose"
                " another schedule"
            )
    run = Run(folder, writes=is_chief(strategy))
    # All that can be wrong with a pipeline shows before its folder is made.
    state, schedule = build_state(config, classes, len(splits["train"]), strategy)
    predict = make_predict([state.model], task, config, classes)
    quarantines = {
        name: Quarantine(split, name, config.data.max_bad_share, run.quarantine_file)
        for name, split in splits.items()
    }
    setup = Setup(config, run, task, splits, strategy, state, predict, quarantines)
    loop = (
        FullBatch(setup, config.optimizer)
        if isinstance(config.optimizer, Lbfgs)
        else Loop(setup, schedule)
    )
    with run.locked() if run.writes else contextlib.nullcontext():
        # The chief alone looks at the folder and changes it; it has to be one that all workers
        # share.
        if chiefs_word(strategy, run.writes and run.start(config, describe_splits(splits), fresh)):
            state.restore(read_checkpoint(run.checkpoint("last")), run.checkpoint("last"))
        else:
            start(state.model, splits["train"], config)
        run.forget_metrics_after(int(state.step))
        ended = loop.train()
        result = {"run": str(folder), "steps": int(state.step), "ended": ended}
        return (
            {**evaluate_run(run), "report": str(run.report("test")), **result}
            if run.writes
            else result
        )


def describe_splits(splits: dict[str, Source]) -> dict[str, Any]:
    """What a run remembers of its data: "classes", and by split "examples" (how many) and "digests"
    (which).
    """
    return {
        "classes": splits["train"].classes,
        "examples": {name: len(split) for name, split in splits.items()},
        "digests": {name: split.digest() for name, split in splits.items()},
    }


def load(run: Run, which: str = "best", overrides: Sequence[str] = ()) -> Trained:
    """The run's model at a checkpoint, "best" or "last", with averaged weights where the pipeline
    keeps an average.

    Args:
        overrides: `data.key=value` each, such as where the data lies now.

    Raises:
        DataError: there is no run or no checkpoint, or it is damaged.
    """
    config, classes = with_data(run.config, overrides), tuple(run.facts["classes"])
    model, task = load_model(run, run.checkpoint(which)), task_module(config.task)
    return Trained((model,), make_predict([model], task, config, classes), task, config, classes)


def open_split(config: Config, split: str, facts: dict[str, Any]) -> Source:
    """One of what `open_known_splits` opens, and raises."""
    return open_known_splits(config, [split], facts)[0]


def open_known_splits(config: Config, names: Sequence[str], facts: dict[str, Any]) -> list[Source]:
    """The named splits of the data a model was trained on; `facts` is what its run remembers of
    them.

    Raises:
        ConfigError: the data has no such split.
        DataError: the data's classes are not those the model knows, or what it was trained on may
            be in the split now.
    """
    splits = open_splits(config.data)
    for name in names:
        if name not in splits:
            raise ConfigError(f"--split {name}: the data has {', '.join(splits)}")
    now = describe_splits(splits)
    if list(now["classes"]) != facts["classes"]:
        changed = (
            f"the model knows {', '.join(facts['classes'])}; the data has"
            f" {', '.join(now['classes'])}"
        )
        raise DataError(f"the data's classes changed: {changed}. Restore the data")
    changed_splits = {name for name in splits if now["digests"][name] != facts["digests"].get(name)}
    for name in names:
        if name in changed_splits and "train" in changed_splits:
            raise DataError(
                "the data changed since the model was trained, and images it was trained on may be"
                f" in the {name} split now. Restore the data, or train again"
            )
        if name in changed_splits:
            log.warning(
                "the %s split has other images than when the model was trained; they are used as"
                " they are",
                name,
            )
    return [splits[name] for name in names]


def evaluate_run(run: Run, split: str = "test", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Scores the checkpoint of a run that would be exported, on one split, and writes the report.

    Returns:
        What `evaluation.evaluate` does, and "split".
    """
    trained = load(run, run.config.export.checkpoint, overrides)
    source = open_split(trained.config, split, run.facts)
    quarantine = Quarantine(source, split, trained.config.data.max_bad_share, run.quarantine_file)
    first = FirstExamples()
    scores = evaluate(
        trained.predict,
        source,
        trained.task,
        trained.config,
        quarantine=quarantine,
        watch=first.watch,
    )
    write_report(
        run, trained.task, split, scores, first.draw(trained.task, trained.config, trained.classes)
    )
    return {**scores, "split": split}
