"""Layout and metadata of an exported model's folder, readable without TensorFlow.

NAME/VERSION/saved_model.pb, variables/   the graph and its weights
NAME/VERSION/assets.extra/cvpipe.json     classes, the whole configuration, versions, results of the
gate, and the meaning of every input and output of the signatures
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvpipe.data.facts import Facts
from cvpipe.errors import DataError, instead_of_folder

if TYPE_CHECKING:
    from cvpipe.config import Config

ABOUT = Path("assets.extra") / "cvpipe.json"
VALID = "valid"
"""Name of the output that is True for each image that could be decoded."""


def find_artifact(path: str | Path) -> Path:
    """Return the folder of a version; for the folder of a model, that of its highest version.

    Raises:
        DataError: there is no exported model.
    """
    path = Path(path)
    if (path / "saved_model.pb").is_file():
        return path
    versions = find_versions(path)
    if not versions:
        missing = "no exported model there; export a run with: cvpipe export RUN"
        raise DataError(f"{path}: {instead_of_folder(path) or missing}")
    return versions[max(versions)]


def find_versions(model: Path) -> dict[int, Path]:
    """Return the version folders of a model by number, ascending; empty if there is no such folder.

    As for TF Serving, a version is a folder whose name is a number and that holds a SavedModel.
    """
    children = model.iterdir() if model.is_dir() else []
    numbers = {
        int(child.name): child for child in children if re.fullmatch("[0-9]{1,18}", child.name)
    }
    return {
        number: numbers[number]
        for number in sorted(numbers)
        if (numbers[number] / "saved_model.pb").is_file()
    }


def read_about(folder: Path) -> dict[str, Any]:
    """Return the metadata of an exported model.

    Raises:
        DataError: it was not exported by this version of cvpipe, or the file is damaged.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{folder}: {ABOUT} is missing; was this SavedModel exported by cvpipe?"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{folder / ABOUT}: damaged ({error}); export the run again") from None
    if "images" not in about.get("trained_on", {}) or "signatures" not in about:
        raise DataError(
            f"{folder}: exported by an earlier version of cvpipe; train and export it again"
        )
    return about


def artifact_config(folder: Path) -> Config:
    """Return the configuration inside an artifact."""
    # Answering an image doesn't need it, nor its imports.
    from cvpipe import config_file

    return config_file.parse(json.dumps(read_about(folder)["config"]), str(folder / ABOUT))


def artifact_facts(folder: Path) -> Facts:
    """Return the facts of the data that an artifact was trained on; raises as `read_about` does."""
    return Facts.from_json(read_about(folder)["trained_on"]["facts"])
