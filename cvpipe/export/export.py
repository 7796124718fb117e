"""Export of runs as a new version of a model.

The version is written to a temporary folder and checked. Only then is it renamed to its number.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvpipe import __version__
from cvpipe.atomic_write import flush_tree
from cvpipe.data.facts import KnownData
from cvpipe.data.known_splits import open_known_splits, open_split
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources import Source
from cvpipe.errors import ConfigError, UserError
from cvpipe.evaluation import Predict, evaluate, make_predict
from cvpipe.export.about import ABOUT
from cvpipe.export.card import write_card
from cvpipe.export.cost import SPLIT, measure_cost, scores_of
from cvpipe.export.describe import describe_signatures
from cvpipe.export.explained import make_maps, map_fields, with_maps
from cvpipe.export.formats.write import check_formats, write_formats
from cvpipe.export.gate import Measured, check_artifact, check_requests
from cvpipe.export.manifest import write_manifest
from cvpipe.export.operations import check_operations
from cvpipe.export.saved_model import write_saved_model
from cvpipe.export.unchecked import unchecked_folder
from cvpipe.export.variant import can_fold, fold_members, in_precision, stand_in_for, tolerance_of
from cvpipe.export.warmup_requests import write_warmup_requests
from cvpipe.json_files import write_json
from cvpipe.tasks.task import Networks
from cvpipe.training.ensemble import CHANGEABLE, Member, find_members, known_to, load_ensemble
from cvpipe.training.run import Run
from cvpipe.training.trained import Trained, answering_together

log = logging.getLogger(__name__)

VALIDATION = "validation"
FOLDED = "folded"
"""Key of the gate's measurements: True if batch normalizations are part of the layers before."""


def export(
    run: Run, to: Path | None = None, overrides: Sequence[str] = (), formats: Sequence[str] = ()
) -> dict[str, Any]:
    """Export the checkpoint of a run that `export.checkpoint` names as the next version of a model.

    Args:
        run: a trained run.
        to: the model's folder; None for saved_models/<name>.
        overrides: `key=value` each, for keys of `data`, such as its path, or of
            `training.ensemble.ANSWERED`.
        formats: other formats to write, from `formats.NAMES`.

    Returns:
        "artifact" (its folder), "version", the gate's "images", "tolerance", "max_difference",
        FOLDED, "formats" as returned by `write_formats`, and "precision", a `cost.Cost` as a
        dictionary, or None if the precision is that of training.

    Raises:
        UserError: the answers of the artifact or of a format differ from evaluation's. In this case
            nothing is written.
    """
    return export_members(
        find_members([run]), to or Path("saved_models") / run.config.name, overrides, formats
    )


def export_members(
    members: Sequence[Member],
    folder: Path,
    overrides: Sequence[str] = (),
    formats: Sequence[str] = (),
    best_threshold: bool = False,
) -> dict[str, Any]:
    """Export one model or an ensemble as the next version in a model's folder. Results and errors
    are those of `export`.

    Args:
        best_threshold: True to use the threshold with the best F1 on the validation split for each
            class, and to leave out answers below it. "thresholds" of the result has the overrides
            that do so.

    Raises:
        ConfigError: `best_threshold` is True, but answers have no threshold or the run has no
            validation split.
    """
    if (folder / "saved_model.pb").exists():
        raise UserError(
            f"{folder}: is a version of a model; give the model's folder, {folder.parent}, to add a"
            " new version"
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give the folder of a model, new or existing")
    for saved in folder.glob("*/*/saved_model.pb"):
        if saved.parent.name.isdigit():
            raise UserError(
                f"{folder}: contains models, such as {saved.parent.parent.name}; give the folder"
                f" of one model, such as {folder / members[0].run.config.name}"
            )
    trained, known = load_ensemble(members, overrides), known_to(members)
    check_formats(formats, trained.task, trained.config)
    chosen: tuple[str, ...] = ()
    if best_threshold:
        chosen = _best_thresholds(trained, known)
    if chosen:
        # Loading again could read a newer checkpoint of running training.
        run, both = members[0].run, (*overrides, *chosen)
        trained = answering_together(trained.members, trained.steps, run, both, CHANGEABLE)
    answers = {**trained.task.answers, **map_fields(trained.config)}
    trained = trained._replace(task=dataclasses.replace(trained.task, answers=answers))
    # Held-out images first; training images are used if there are too few.
    splits = [name for name in ("test", "validation", "train") if name in known["examples"]]
    # Answers are only compared, not scored, so any split may be used.
    sources = open_known_splits(trained.config, splits, known, scored=False)
    with unchecked_folder(folder) as unchecked:
        task, config = trained.task, trained.config
        checked, predict = _write_checked(unchecked, trained, sources)
        files = write_formats(unchecked, formats, predict, sources, task, config)
        # A report's scores were measured with the run's thresholds.
        changed = config.model != members[0].run.config.model
        reported = {} if changed else _measured(members, trained)
        scores, cost = reported, None
        if predict is not trained.predict:
            cost, scores = measure_cost(trained, predict, known, reported)
        elif changed:
            scores = {SPLIT: scores_of(predict, trained, known)}
        about = {
            "cvpipe": __version__,
            "config": config.to_json(),
            "signatures": describe_signatures(unchecked, task, config),
            "gate": checked,
            "formats": files,
            "precision": cost and cost._asdict(),
            "thresholds": list(chosen),
            "measured": scores,
            "versions": members[0].run.versions,
            "trained_on": known,
            "members": [
                {
                    "checkpoint": str(member.checkpoint),
                    "config": member.run.config.to_json(),
                    "weights": _provenance(member.run),
                }
                for member in members
            ],
        }
        # Without scores of this checkpoint, the report's pictures belong to another checkpoint.
        test = members[0].run.pictures("test")
        pictures = sorted(test.glob("*.png")) if "test" in reported else []
        (unchecked / ABOUT).parent.mkdir(exist_ok=True)
        write_json(unchecked / ABOUT, about)
        write_card(unchecked, folder.name, about, pictures)
        write_warmup_requests(unchecked, folder.name)
        check_operations(unchecked)
        write_manifest(unchecked)
        flush_tree(unchecked)
        version = _publish(unchecked, folder)
    artifact = str(folder / str(version))
    more = {"formats": files, "precision": about["precision"], "thresholds": list(chosen)}
    return {"artifact": artifact, "version": version, **checked, **more}


def _best_thresholds(trained: Trained, known: KnownData) -> tuple[str, ...]:
    """Return overrides that set the thresholds with the best F1 on the validation split. No
    reported score is measured on this split.
    """
    config, task = trained.config, trained.task
    if task.best_thresholds is None:
        raise ConfigError(
            f"--threshold best: answers of task: {config.task} have no threshold; leave the option"
            " out"
        )
    if VALIDATION not in known["examples"]:
        raise ConfigError(
            "--threshold best: the run has no validation split to choose thresholds on; set"
            " model.head.suppress.class_thresholds with --set instead"
        )
    source = open_split(config, VALIDATION, known)
    quarantine = Quarantine(source, VALIDATION, config.data.max_bad_share)
    chosen = task.best_thresholds(
        evaluate(trained.predict, source, task, config, quarantine=quarantine)
    )
    if not chosen:
        log.warning(
            "--threshold best: no answer on the validation split is right, so no class has a best"
            " threshold and the run's thresholds are kept; train longer, or look at the run's"
            " report"
        )
    return chosen


def _write_checked(
    folder: Path, trained: Trained, sources: Sequence[Source]
) -> tuple[Measured, Predict]:
    """Write the SavedModel and check it in the gate.

    Returns:
        The measurements of the gate, and the prediction function in `export.precision`.
    """
    task, config = trained.task, trained.config
    if config.export.precision != "trained":
        members = in_precision(trained.members, task, config.export.precision)
        trained = trained._replace(members=members, predict=make_predict(members, task, config))
    if can_fold(trained.members, task, config):
        folded = fold_members(trained.members)
        try:
            measured = _write_and_compare(folder, trained, folded, sources)
            return {**measured, FOLDED: True}, trained.predict
        except UserError:
            # Some networks amplify rounding so much that only the same operations are close enough.
            # If something else is wrong, the second attempt fails in the same way.
            shutil.rmtree(folder, ignore_errors=True)
    measured = _write_and_compare(folder, trained, trained.members, sources)
    return {**measured, FOLDED: False}, trained.predict


def _write_and_compare(
    folder: Path, trained: Trained, members: Sequence[Networks], sources: Sequence[Source]
) -> Measured:
    """Write a SavedModel of `members`, and compare its answers with those of `trained`."""
    task, config, predict = trained.task, trained.config, trained.predict
    aliases: dict[str, Any] = {}
    answer = make_predict(members, task, config, stand_in_for(config.export, aliases))
    written = checked = None
    if config.export.explain:
        written = with_maps(answer, make_maps(members, task, config))
        checked = with_maps(predict, make_maps(trained.members, task, config))
    write_saved_model(folder, members, answer, task, config, aliases, written)
    if task.requests:
        return check_requests(folder, members[0], task.requests(members[0]), task)
    allowed = tolerance_of(config.export)
    return check_artifact(folder, predict, sources, task, config, allowed, checked)


def _measured(members: Sequence[Member], trained: Trained) -> dict[str, dict[str, float]]:
    """Return the reported scores of the exported checkpoint by split; empty for an ensemble."""
    if len(members) > 1:
        return {}
    return members[0].run.measured(trained.steps[0])


def _provenance(run: Run) -> dict[str, Any] | None:
    """Return the origin of the run's initial weights; None for random ones."""
    weights = run.weights
    return None if weights is None else weights._asdict()


def _publish(unchecked: Path, folder: Path) -> int:
    """Rename the folder to the next free version number. Safe if several exports run at once."""
    while True:
        version = (
            max((int(child.name) for child in folder.iterdir() if child.name.isdigit()), default=0)
            + 1
        )
        try:
            unchecked.rename(folder / str(version))
            return version
        except OSError:
            if not (folder / str(version)).exists():
                raise
