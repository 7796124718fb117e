"""Runs and artifacts, opened in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cvpipe.commands.command import artifact_folder, is_run
from cvpipe.config import Config
from cvpipe.config_file import with_data
from cvpipe.data.facts import Facts, KnownData
from cvpipe.data.known_splits import open_split
from cvpipe.data.sources import Source
from cvpipe.evaluation import Subject
from cvpipe.export import score
from cvpipe.export.about import read_about
from cvpipe.export.artifact import Artifact, open_artifact
from cvpipe.tasks import load_task
from cvpipe.tasks.task import Task
from cvpipe.training import report
from cvpipe.training.run import Run
from cvpipe.training.trained import Trained, load


class Opened(NamedTuple):
    """A run, at the checkpoint that would be exported, or an artifact."""

    path: Path
    task: Task
    config: Config
    facts: Facts
    known: KnownData
    """Description of the model's training data."""
    loaded: Trained | Artifact

    def source(self, split: str) -> Source:
        """Open a split of the model's data."""
        return open_split(self.config, split, self.known)

    def subject(self, split: str) -> Subject:
        """Return the model with a split of its data, for an evaluation."""
        if isinstance(self.loaded, Trained):
            return report.answering(self.loaded, self.source(split))
        return score.answering(self.loaded, self.task, self.config, self.source(split))


def open_path(path: Path, overrides: Sequence[str]) -> Opened:
    """Open a run or an artifact.

    Args:
        overrides: `data.key=value` each, for example the path of the data.

    Raises:
        DataError: there is neither a run nor an artifact, or it is damaged.
    """
    loaded: Any
    if is_run(path):
        run = Run(path)
        loaded = load(run, run.config.export.checkpoint, overrides)
        return Opened(path, loaded.task, loaded.config, loaded.facts, run.known, loaded)
    folder = artifact_folder(path)
    loaded = open_artifact(folder)
    config, known = with_data(loaded.config, overrides), read_about(folder)["trained_on"]
    return Opened(path, load_task(config, loaded.facts), config, loaded.facts, known, loaded)
