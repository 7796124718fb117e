"""Layout and metadata of exported models. Needs no TensorFlow.

NAME/VERSION/saved_model.pb, variables/   the graph and its weights
NAME/VERSION/assets.extra/cvpipe.json     configuration, classes, package versions, result of the
gate, and the meaning of the signatures' inputs and outputs
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvpipe.data.facts import Facts
from cvpipe.errors import DataError, instead_of_folder

if TYPE_CHECKING:
    from cvpipe.config import Config

ABOUT = Path("assets.extra") / "cvpipe.json"
VALID = "valid"
"""Name of the output, bool [B], that is True for images that could be decoded."""


def find_artifact(path: str | Path) -> Path:
    """Return the folder of a version. Given the folder of a model, return the folder of its highest
    version.

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
    """Return the version folders of a model by number, ascending; empty if `model` does not exist.

    As in TF Serving, a version is a folder with a number as its name that contains a SavedModel.
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


def values_in_words(described: Mapping[str, Any], value: float) -> str | None:
    """Return the values that an optional input takes, such as "a number from 0 to 1"; None if
    `value` is one of them.

    Args:
        described: the input's entry in the metadata. Older artifacts have no limits.
        value: the value to check.
    """
    least, most = described.get("least"), described.get("most")
    if (
        math.isfinite(value)
        and (least is None or value >= least)
        and (most is None or value <= most)
    ):
        return None
    noun = "a whole number" if isinstance(described["default"], int) else "a number"
    if least is None or most is None:
        return noun if least is None else f"{noun} of at least {least:g}"
    return f"{noun} from {least:g} to {most:g}"


def read_about(folder: Path) -> dict[str, Any]:
    """Return the metadata of an exported model.

    Raises:
        DataError: another version of cvpipe exported it, or the file is damaged.
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
    # Imported here, because prediction doesn't need it.
    from cvpipe import config_file

    return config_file.parse(json.dumps(read_about(folder)["config"]), str(folder / ABOUT))


def artifact_facts(folder: Path) -> Facts:
    """Return the facts of the training data. Raises the same errors as `read_about`."""
    return Facts.from_json(read_about(folder)["trained_on"]["facts"])
