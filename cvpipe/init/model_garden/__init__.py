"""Translation of TensorFlow Model Garden's experiments to pipelines: `cvpipe init --model-garden`.

`experiment.py` reads a configuration and records which keys have been translated. Each task has a
module; `network.py`, `training.py` and `records.py` translate the keys that tasks share. Keys
without a counterpart are reported (`leftovers.py`).
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
    """A pipeline file, and its differences from the experiment."""

    task: str
    text: str
    """Content of the pipeline file."""
    notes: list[str]
    """A sentence for each part of the experiment without an exact counterpart."""


def translate(
    names: Sequence[str],
    task: str | None = None,
    images: int | None = None,
    file: str = "PIPELINE.yaml",
) -> Translated:
    """Translate an experiment into a pipeline.

    Args:
        names: a registered experiment or a YAML file, and then files that override its values, as
            with Model Garden's --experiment and --config_file.
        task: one of classification, detection and segmentation; None to detect it from the keys.
        images: number of training images; None to assume that an epoch is the steps between two
            evaluations.
        file: name of the pipeline file, for the command in its first comment.

    Raises:
        ConfigError: the experiment or file doesn't exist, or its task isn't supported.
    """
    experiment = read_experiment(names)
    kind = task_of(experiment) if task is None else task
    pace = pace_of(experiment, images)
    values, reasons = _translated(experiment, kind, pace)
    notes = [*experiment.notes, *leftovers(experiment)]
    head = [
        f"Translated by cvpipe init --model-garden from {' '.join(names)}. Not yet trained.",
        f"    cvpipe train {file}",
        *(["Differences from Model Garden:"] if notes else []),
        *(f"- {note}" for note in notes),
    ]
    return Translated(kind, to_yaml(values, reasons, head), notes)


def _translated(
    experiment: Experiment, task: str, pace: Pace
) -> tuple[dict[str, Any], dict[str, str]]:
    module = importlib.import_module(f"cvpipe.init.model_garden.{task}")
    values, reasons = module.pipeline(experiment, pace)
    return {"task": task, **values}, reasons
