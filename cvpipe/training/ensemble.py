"""Ensembles: several models whose probabilities are averaged.

The members are the snapshots of one run (Huang et al. 2017), or several runs on the same data with
the same image preparation and the same kind of answers. Evaluation and export treat an ensemble as
one model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cvpipe.data.facts import KnownData
from cvpipe.data.known_splits import known_to_ensemble, open_split
from cvpipe.data.quarantine import Quarantine
from cvpipe.errors import DataError
from cvpipe.evaluation import ask, evaluate, make_predict, numbers
from cvpipe.training.build import load_state
from cvpipe.training.outputs import outputs_differ
from cvpipe.training.run import Run
from cvpipe.training.trained import Trained, answering_together

# Sections that must be the same for all members, because they determine inputs and answers.
SHARED = ("task", "prepare", "test_time", "export")
# Keys that can be changed after training, for example at export.
CHANGEABLE = (
    "export.png",
    "export.top_k",
    "export.precision",
    "export.target",
    "export.batch_sizes",
    "export.batching",
    "model.head.suppress.class_thresholds",
    "export.explain",
)


class Member(NamedTuple):
    """A trained model: one checkpoint of a run."""

    run: Run
    checkpoint: Path


def find_members(runs: Sequence[Run], snapshots: bool = False) -> list[Member]:
    """Return, for each run, the checkpoint that would be exported, or all snapshots.

    Raises:
        DataError: a run has no snapshots.
    """
    if not snapshots:
        return [Member(run, run.checkpoint(run.config.export.checkpoint)) for run in runs]
    for run in runs:
        if not run.snapshots():
            raise DataError(
                f"{run.folder}: no snapshots; train it with schedule.kind: restarts and"
                " train.snapshots: true"
            )
    return [Member(run, file) for run in runs for file in run.snapshots()]


def load_ensemble(members: Sequence[Member], overrides: Sequence[str] = ()) -> Trained:
    """Load the members as one model, with the configuration of the first member.

    Args:
        members: from `find_members`.
        overrides: `key=value` each, for keys of `data` or in CHANGEABLE.

    Raises:
        DataError: the members are incompatible, or a member can't be loaded.
    """
    first = members[0].run
    for member in members[1:]:
        _check_fits(first, member.run)
    states = [load_state(*member) for member in members]
    networks, steps = (
        [state.networks for state in states],
        [int(state.step.numpy()) for state in states],
    )
    return answering_together(networks, steps, first, overrides, CHANGEABLE)


def known_to(members: Sequence[Member]) -> KnownData:
    """Return the data that the members were trained on."""
    return known_to_ensemble({str(run.folder): run.known for run, _ in members})


def evaluate_ensemble(
    members: Sequence[Member], split: str = "test", overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Evaluate an ensemble and each of its members on one split.

    Returns:
        The result of `evaluation.evaluate`, with "split", the name of the split, and "members", a
        list with "run", "checkpoint" and the scores of each member.

    Raises:
        DataError: the members are incompatible, or some were trained on images of the split.
    """
    trained = load_ensemble(members, overrides)
    source = open_split(trained.config, split, known_to(members))
    alone = [make_predict([own], trained.task, trained.config) for own in trained.members]
    metrics = [trained.task.metrics() for _ in members]

    def watch(batch: Mapping[str, Any], _: Mapping[str, np.ndarray]) -> None:
        for predict, metric in zip(alone, metrics, strict=True):
            metric.update(
                ask(predict, batch["image"], batch["extent"]), batch["targets"], batch["weight"]
            )

    quarantine = Quarantine(source, split, trained.config.data.max_bad_share)
    scores = evaluate(
        trained.predict, source, trained.task, trained.config, quarantine=quarantine, watch=watch
    )
    each = [
        {"run": str(run.folder), "checkpoint": checkpoint.stem, **numbers(metric.result())}
        for (run, checkpoint), metric in zip(members, metrics, strict=True)
    ]
    return {**scores, "split": split, "members": each}


def _check_fits(first: Run, run: Run) -> None:
    ours, theirs = first.config.to_json(), run.config.to_json()
    for key in SHARED:
        if ours.get(key) != theirs.get(key):
            raise DataError(
                f"{run.folder}: can't be combined with {first.folder}, because their"
                f" configurations differ in '{key}'"
            )
    kind, other = ours["loss"]["kind"], theirs["loss"]["kind"]
    if kind != other:
        differs = f"probabilities mean different things with loss.kind {kind} and {other}"
        raise DataError(f"{run.folder}: can't be combined with {first.folder}: {differs}")
    if difference := outputs_differ(run.config, first.config):
        key, its, others = difference
        raise DataError(
            f"{run.folder}: can't be combined with {first.folder}: outputs with {key} {its} and"
            f" {others} can't be averaged; give runs with the same {key}"
        )
    if run.facts != first.facts:
        raise DataError(
            f"{run.folder}: its classes or keypoints differ from those of {first.folder}; its"
            f" classes are {', '.join(run.facts.class_names)}"
        )
    if run.known["digests"].get("test") != first.known["digests"].get("test"):
        raise DataError(
            f"{run.folder}: has other test images than {first.folder}, so one run may have been"
            " trained on test images of the other; train both with the same data and"
            " data.split_seed"
        )
