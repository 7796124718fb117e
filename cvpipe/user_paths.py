"""Paths as users write them: with backslashes, other Unicode forms, ~ or $NAME."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from cvpipe.errors import nearest

DATA = "data"
"""Folder of data sets. `CVPIPE_DATA` can replace it as the first part of a path."""
UNFIT = re.compile(r'[\x00-\x1f<>:"/\\|?*\ud800-\udfff]+')
"""Characters that a file's name can't contain on some operating systems, and bytes that aren't
UTF-8, which a text file can't contain.
"""


def data_folder() -> Path:
    """Return the folder of data sets: the value of CVPIPE_DATA, or data/."""
    return Path(os.environ.get("CVPIPE_DATA") or DATA)


def spellings(path: str) -> Iterator[str]:
    """Yield the possible meanings of a path: unchanged, with / instead of backslashes, and with ~
    and $NAME expanded.
    """
    yield path
    plain = path.replace("\\", "/")
    if plain != path:
        yield plain
    if plain.startswith("~") or "$" in plain:
        # Path.expanduser raises if the user doesn't exist.
        yield os.path.expandvars(os.path.expanduser(plain))  # noqa: PTH111


def same_form(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), to compare it with names in other forms."""
    return unicodedata.normalize("NFC", name)


def find_path(path: str | Path) -> Path:
    """Return the existing file or folder that matches a user's path, or else the path itself.

    A path below data/ is first looked up in the folder of CVPIPE_DATA.
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
    """Return "did you mean …? " for a path that doesn't exist, or "" if no entry has a similar
    name.
    """
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
