"""From a run to a version of a served model: written aside, checked, and only then given its number."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Union

from cvpipe import __version__
from cvpipe.export.about import ABOUT
from cvpipe.export.artefact import write_saved_model
from cvpipe.export.gate import check_artefact
from cvpipe.json_files import write_whole
from cvpipe.training.run import Run
from cvpipe.training.train import load, open_split


def export(run: Run, to: Union[Path, None] = None) -> dict[str, Any]:
    """Exports a run's best (or last) checkpoint as the next version of its model.

    Args:
        run: a trained run.
        to: the model's folder; saved_models/<name> where it is None.

    Returns:
        "artefact" (its folder), "version", and the gate's "images", "tolerance", "max_difference".

    Raises:
        UserError: the artefact doesn't answer as evaluation does; nothing is left behind then.
    """
    trained = load(run, run.config.export.checkpoint)
    test = open_split(trained.config, "test", trained.classes)
    folder = to or Path("saved_models") / trained.config.name
    folder.mkdir(parents=True, exist_ok=True)
    # A server takes folders with a number for versions, so nothing sees this one before it is whole and checked.
    unchecked = folder / f"unchecked-{os.getpid()}"
    try:
        write_saved_model(unchecked, trained.model, trained.predict, trained.config)
        measured = check_artefact(unchecked, trained.predict, test, trained.config)
        about = {"cvpipe": __version__, "classes": trained.classes, "config": trained.config.to_json(), "gate": measured, "run": run.facts}
        (unchecked / ABOUT).parent.mkdir(exist_ok=True)
        write_whole(unchecked / ABOUT, about)
        version = _publish(unchecked, folder)
    finally:
        shutil.rmtree(unchecked, ignore_errors=True)
    return {"artefact": str(folder / str(version)), "version": version, **measured}


def _publish(unchecked: Path, folder: Path) -> int:
    """Renames to the next free version number, also where another export takes one at the same time."""
    while True:
        version = max((int(child.name) for child in folder.iterdir() if child.name.isdigit()), default=0) + 1
        try:
            unchecked.rename(folder / str(version))
            return version
        except OSError:
            if not (folder / str(version)).exists():
                raise
