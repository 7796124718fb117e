"""Errors that users can cause and fix.

Every other exception is a bug of cvpipe.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class UserError(Exception):
    """A mistake outside the program. The message says what is wrong, where, and what to do."""

    exit_code = 1


class ConfigError(UserError):
    """The command line or a pipeline file is wrong."""

    exit_code = 2


class DataError(UserError):
    """Images or labels can't be used as they are."""


class Interrupted(UserError):
    """The run was asked to stop. Its state is saved, and the same command resumes it."""

    exit_code = 75


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun in singular or plural, such as "1 image" or "1,200 images"."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def nearest(wanted: object, known: Iterable[str]) -> str | None:
    """Return the known name most similar to `wanted`, ignoring case.

    None if no name is similar, or `wanted` isn't a string.
    """
    if not isinstance(wanted, str):
        return None
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(wanted.casefold(), names, n=1, cutoff=0.5)
    return names[near[0]] if near else None


def suggest(wanted: str, known: Iterable[str], most: int = 20) -> str:
    """Return the end of an error message about an unknown name: the most similar known name, then
    up to `most` known names.
    """
    names = list(known)
    near = nearest(wanted, names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    said = f"did you mean '{near}'? " if near else ""
    return f"{said}known: {', '.join(names[:most])}{more}"


def refuse_file(folder: Path, option: str) -> None:
    """Check that an output folder, and each folder that contains it, isn't a file.

    Args:
        folder: the folder, which may not exist.
        option: the option that chooses it.

    Raises:
        ConfigError: it is a file.
    """
    file = next((path for path in (folder, *folder.parents) if path.is_file()), None)
    if file:
        raise ConfigError(f"{file}: is a file; choose a folder with {option}")


def unknown_value(option: str, value: str, known: Iterable[str]) -> ConfigError:
    """Return the error for an unknown value of an option."""
    return ConfigError(f"{option} {value}: unknown; {suggest(value, known)}")


def instead_of_folder(path: Path) -> str | None:
    """Return an error message about a file given instead of a run's or a model's folder; None if
    the path isn't a file.
    """
    if not path.is_file():
        return None
    if path.suffix.lower() not in (".yaml", ".yml"):
        return "this is a file; give the folder of a run or of an exported model"
    return (
        f"this is a pipeline file; train it with: cvpipe train {path}, and export the run with:"
        f" cvpipe export RUN, where RUN is the run's folder, such as runs/{path.stem}"
    )


def instead_of_pipeline(path: Path, values: Mapping[str, Any]) -> str | None:
    """Return an error message about YOLO's data.yaml given instead of a pipeline file or a data
    set; None if the values, those of the file, aren't of that kind.
    """
    if "task" in values or "names" not in values or not values.keys() & {"train", "val", "nc"}:
        return None
    place = path.parent / str(values.get("path", ""))
    folder = place if place.is_dir() else path.parent
    return (
        f"{path}: this describes a data set for YOLO, and is not a pipeline file; give the data"
        f" set's folder: cvpipe init {folder}"
    )
