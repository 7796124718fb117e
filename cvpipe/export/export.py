"""From a run, or several, to a version of a served model: written aside, checked, and only then
given its number.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvpipe import __version__
from cvpipe.atomic_write import flush_tree
from cvpipe.data.known_splits import open_known_splits
from cvpipe.data.sources import Source
from cvpipe.errors import UserError
from cvpipe.evaluation import Predict, make_predict
from cvpipe.export.about import ABOUT
from cvpipe.export.card import write_card
from cvpipe.export.cost import measure_cost
from cvpipe.export.describe import describe_signatures
from cvpipe.export.formats.write import check_formats, write_formats
from cvpipe.export.gate import Measured, check_artifact, check_requests
from cvpipe.export.manifest import write_manifest
from cvpipe.export.operations import check_operations
from cvpipe.export.saved_model import write_saved_model
from cvpipe.export.variant import in_precision, stand_in_for, tolerance_of
from cvpipe.export.warmup_requests import write_warmup_requests
from cvpipe.json_files import write_json
from cvpipe.training.checkpoints import read_checkpoint
from cvpipe.training.ensemble import Member, find_members, load_ensemble
from cvpipe.training.run import Run
from cvpipe.training.trained import Trained


def export(
    run: Run, to: Path | None = None, overrides: Sequence[str] = (), formats: Sequence[str] = ()
) -> dict[str, Any]:
    """Exports a run's best (or last) checkpoint as the next version of its model.

    Args:
        run: a trained run.
        to: the model's folder; saved_models/<name> where it is None.
        overrides: `key=value` each, of data, such as where it lies now, or of
            `training.ensemble.ANSWERED`.
        formats: of `formats.NAMES`, for which files are written, too.

    Returns:
        "artifact" (its folder), "version", the gate's "images", "tolerance", "max_difference",
        "formats", what `write_formats` returns, and "precision", a `cost.Cost` as a mapping or None
        where the precision is that of the training.

    Raises:
        UserError: the artifact, or a format, doesn't answer as evaluation does; nothing is left
            behind then.
    """
    return export_members(
        find_members([run]), to or Path("saved_models") / run.config.name, overrides, formats
    )


def export_members(
    members: Sequence[Member],
    folder: Path,
    overrides: Sequence[str] = (),
    formats: Sequence[str] = (),
) -> dict[str, Any]:
    """Exports one model, or several that answer together, as the next version in a model's folder;
    returns and raises like `export`.
    """
    if (folder / "saved_model.pb").exists():
        raise UserError(
            f"{folder}: a version of a model; give the model's folder, {folder.parent}, which gets"
            " a new version"
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: a file; give a folder, new or with other versions of the model")
    trained, known = load_ensemble(members, overrides), members[0].run.known
    check_formats(formats, trained.task, trained.config)
    # Held-out images first; the others fill up where there are too few.
    splits = [name for name in ("test", "validation", "train") if name in known["examples"]]
    # Answers are compared with answers, not scored.
    sources = open_known_splits(trained.config, splits, known, scored=False)
    folder.mkdir(parents=True, exist_ok=True)
    # A server takes folders with a number for versions, so nothing sees this one before it is whole
    # and checked.
    unchecked = folder / f"unchecked-{os.getpid()}"
    try:
        task, config = trained.task, trained.config
        checked, predict = _write_checked(unchecked, trained, sources)
        files = write_formats(unchecked, formats, predict, sources, task, config)
        reported = _measured(members)
        scores, cost = reported, None
        if predict is not trained.predict:
            cost, scores = measure_cost(trained, predict, known, reported)
        about = {
            "cvpipe": __version__,
            "config": config.to_json(),
            "signatures": describe_signatures(unchecked, task),
            "gate": checked,
            "formats": files,
            "precision": cost and cost._asdict(),
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
        # Those of another checkpoint show other answers.
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
    finally:
        shutil.rmtree(unchecked, ignore_errors=True)
    artifact = str(folder / str(version))
    more = {"formats": files, "precision": about["precision"]}
    return {"artifact": artifact, "version": version, **checked, **more}


def _write_checked(
    folder: Path, trained: Trained, sources: Sequence[Source]
) -> tuple[Measured, Predict]:
    """Write the SavedModel and pass it through the gate.

    Returns:
        What the gate measured, and evaluation's answers in `export.precision`.
    """
    task, config, members, predict = trained.task, trained.config, trained.members, trained.predict
    if config.export.precision != "trained":
        members = in_precision(members, task, config.export.precision)
        predict = make_predict(members, task, config)
    aliases: dict[str, Any] = {}
    answer = make_predict(members, task, config, stand_in_for(config.export, aliases))
    write_saved_model(folder, members, answer, task, config, aliases)
    if task.requests:
        return check_requests(folder, members[0], task.requests(members[0]), task), predict
    allowed = tolerance_of(config.export)
    return check_artifact(folder, predict, sources, task, config, allowed), predict


def _measured(members: Sequence[Member]) -> dict[str, dict[str, float]]:
    """Return the scores by split that a report has of the exported checkpoint; none of several
    that answer together.
    """
    if len(members) > 1:
        return {}
    run, checkpoint = members[0]
    return run.measured(int(read_checkpoint(checkpoint, ("step",))["step"]))


def _provenance(run: Run) -> dict[str, Any] | None:
    """Return the origin of the weights that the run began with; None for random ones."""
    weights = run.weights
    return None if weights is None else weights._asdict()


def _publish(unchecked: Path, folder: Path) -> int:
    """Renames to the next free version number, also where another export takes one at the same
    time.
    """
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
