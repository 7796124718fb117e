"""Evaluation of an artifact on encoded images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvpipe.config import Config
from cvpipe.config_file import with_data
from cvpipe.data.known_splits import open_split
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.evaluation import Answered, Begin, Subject, answer_bytes, evaluate_bytes
from cvpipe.export.about import read_about
from cvpipe.export.artifact import Artifact, open_artifact
from cvpipe.tasks import load_task
from cvpipe.tasks.task import Task


def evaluate_artifact(
    folder: Path, split: str, overrides: Sequence[str] = (), begin: Begin | None = None
) -> dict[str, Any]:
    """Evaluate an artifact on a split of its data set.

    Args:
        overrides: `data.key=value` each, for example the path of the data.
        begin: called before the evaluation; returns a callback for batches and answers.

    Returns:
        The result of `evaluation.evaluate_bytes`, and "split".
    """
    artifact = open_artifact(folder)
    config = with_data(artifact.config, overrides)
    source = open_split(config, split, read_about(folder)["trained_on"])
    task = load_task(config, artifact.facts)
    quarantine = Quarantine(source, split, config.data.max_bad_share)
    watch = begin(answering(artifact, task, config, source)) if begin else None
    scores = evaluate_bytes(artifact, source, task, config, quarantine=quarantine, watch=watch)
    return {**scores, "split": split}


def answering(artifact: Artifact, task: Task, config: Config, source: Source) -> Subject:
    """Return the answers of an artifact to a split as the subject of an evaluation."""

    def answer(part: Source, quarantine: Quarantine) -> Answered:
        return answer_bytes(artifact, part, task, config, quarantine)

    return Subject(source, task, config, artifact.facts, answer)
