"""Models that `cvpipe attack` takes: runs, and artifacts of classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from cvpipe.commands.command import artifact_folder, is_run
from cvpipe.config import Config
from cvpipe.config_file import with_data
from cvpipe.data.facts import Facts, KnownData
from cvpipe.errors import ConfigError
from cvpipe.explain.score import Subject, subject_of
from cvpipe.export.about import read_about
from cvpipe.export.artifact import Artifact, open_artifact
from cvpipe.tasks import load_task
from cvpipe.tasks.task import Task, Tensors
from cvpipe.training.run import Run
from cvpipe.training.trained import Trained, load


class AttackedModel(NamedTuple):
    """A run or an artifact to attack."""

    path: Path
    task: Task
    config: Config
    facts: Facts
    known: KnownData
    """Description of the model's training data."""
    loaded: Trained | Artifact

    def subject(self) -> Subject:
        """Return the model's class scores, through which gradients flow.

        Raises:
            ConfigError: the task has no class scores.
        """
        if isinstance(self.loaded, Trained):
            return subject_of(self.task, dict(self.loaded.members[0]))
        if self.task.answered_scores is None:
            raise ConfigError(f"{self.path}: only artifacts of classifiers can be attacked")
        return Subject(_Signature(self.loaded), self.task.answered_scores)


class _Signature:
    """An artifact's signature for prepared images, called like a network in inference mode."""

    def __init__(self, artifact: Artifact):
        # Kept alive, because the artifact holds the signature's variables.
        self._loaded = artifact.loaded
        self._answer = artifact.loaded.signatures["tensor"]

    def __call__(self, images: tf.Tensor, training: bool = False) -> Tensors:
        answers: Tensors = self._answer(image=images)
        return answers


def open_model(path: Path, overrides: Sequence[str]) -> AttackedModel:
    """Open a run or an artifact.

    Args:
        overrides: `data.key=value` each, for example the path of the data.
    """
    loaded: Any
    if is_run(path):
        run = Run(path)
        loaded = load(run, overrides=overrides)
        return AttackedModel(path, loaded.task, loaded.config, loaded.facts, run.known, loaded)
    folder = artifact_folder(path)
    loaded = open_artifact(folder)
    config = with_data(loaded.config, overrides)
    known, task = read_about(folder)["trained_on"], load_task(config, loaded.facts)
    return AttackedModel(path, task, config, loaded.facts, known, loaded)
