"""Pipelines translated from experiments of TensorFlow Model Garden: `cvpipe init --model-garden`.

`experiment.py` reads a configuration and remembers what of it was taken; a task has a module of its
name, and `network.py`, `training.py` and `records.py` translate what the tasks share. Nothing is
dropped silently: what has no counterpart becomes a sentence (`leftovers.py`).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from cvpipe.init.model_garden.experiment import Experiment, read_experiment
from cvpipe.init.model_garden.leftovers import leftovers
from cvpipe.init.model_garden.tasks import task_of
from cvpipe.init.model_garden.training import Pace, pace_of
from cvpipe.init.pipeline_file import to_yaml

__all__ = ["Translated", "translate"]


class Translated(NamedTuple):
    """A pipeline file, and what of the experiment isn't in it."""

    task: str
    text: str
    """Content of the pipeline file."""
    notes: list[str]
    """A sentence for each part of the experiment that has no counterpart or another one."""


def translate(
    names: Sequence[str],
    task: str | None = None,
    images: int | None = None,
    file: str = "PIPELINE.yaml",
) -> Translated:
    """Translate an experiment into a pipeline.

    Args:
        names: a registered experiment, or a YAML file, and files whose values stand over it, as
            Model Garden's --experiment and --config_file.
        task: one of classification, detection and segmentation; None to tell it by the keys.
        images: number of training images; None to take the steps between two evaluations for an
            epoch.
        file: name of the pipeline file, for the command in its head.

    Raises:
        ConfigError: there is no such experiment or file, or it is of a task that isn't translated.
    """
    experiment = read_experiment(names)
    kind = task_of(experiment) if task is None else task
    pace = pace_of(experiment, images)
    values, reasons = _translated(experiment, kind, pace)
    notes = [*experiment.notes, *leftovers(experiment)]
    head = [
        f"Translated by cvpipe init --model-garden from {' '.join(names)}. Not yet trained.",
        f"    cvpipe train {file}",
        *(["Not as in Model Garden:"] if notes else []),
        *(f"- {note}" for note in notes),
    ]
    return Translated(kind, to_yaml(values, reasons, head), notes)


def _translated(
    experiment: Experiment, task: str, pace: Pace
) -> tuple[dict[str, Any], dict[str, str]]:
    module = importlib.import_module(f"cvpipe.init.model_garden.{task}")
    values, reasons = module.pipeline(experiment, pace)
    return {"task": task, **values}, reasons
