"""Paths as users write them: other separators, another form of Unicode, ~ and variables."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from cvpipe.errors import nearest

DATA = "data"
"""Folder of data sets, as paths in pipelines begin."""


def data_folder() -> Path:
    """Return the folder of data sets: data/, or the one that CVPIPE_DATA names."""
    return Path(os.environ.get("CVPIPE_DATA") or DATA)


def spellings(path: str) -> Iterator[str]:
    """Yield the ways to read a path: as it stands, with / for backslashes, and with ~ and $NAME
    expanded.
    """
    yield path
    plain = path.replace("\\", "/")
    if plain != path:
        yield plain
    if plain.startswith("~") or "$" in plain:
        # Path.expanduser raises where there is no such user.
        yield os.path.expandvars(os.path.expanduser(plain))  # noqa: PTH111


def same_form(name: str) -> str:
    """Return a name in the form (NFC) that all its Unicode forms share."""
    return unicodedata.normalize("NFC", name)


def find_path(path: str | Path) -> Path:
    """Return the file or folder that a user's path means; the path itself if there is none.

    A path below data/ is looked for in the folder that CVPIPE_DATA names first.
    """
    for spelled in spellings(str(path)):
        for place in _places(Path(spelled)):
            found = _in_any_form(place)
            if found is not None:
                return found
    return Path(path)


def _places(path: Path) -> Iterator[Path]:
    if path.parts[:1] == (DATA,):
        yield data_folder().joinpath(*path.parts[1:])
    yield path


def nearly(path: str | Path) -> str:
    """Return "did you mean …? " about a path that isn't there, or "" if nothing is like it."""
    wanted = find_path(path)
    while wanted.parent != wanted and not wanted.parent.exists():
        wanted = wanted.parent
    folder = wanted.parent
    near = nearest(wanted.name, _entries(folder))
    return f"did you mean '{folder / near}'? " if near else ""


def _in_any_form(path: Path) -> Path | None:
    if path.exists():
        return path
    if str(path).isascii() or path.parent == path:
        return None
    folder = _in_any_form(path.parent)
    if folder is None:
        return None
    form = same_form(path.name)
    return next((folder / name for name in _entries(folder) if same_form(name) == form), None)


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []
