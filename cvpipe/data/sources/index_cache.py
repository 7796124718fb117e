"""Indexes of large files, cached as long as the files don't change.

Indexes are in $XDG_CACHE_HOME/cvpipe/FOLDER, or ~/.cache/cvpipe/FOLDER. Each format has a folder,
the argument `folder`. An index is valid while the file has the same size and modification time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from cvpipe.atomic_write import atomic_write

Index = dict[str, np.ndarray]
STAMP = "stamp"


def stamp_of(file: str) -> np.ndarray:
    """Return size and modification time of a file, int64 [2]; raises OSError if it is missing."""
    status = Path(file).stat()
    return np.array([status.st_size, status.st_mtime_ns], np.int64)


def remembered(folder: str, file: str, stamp: np.ndarray) -> Index | None:
    """Return the cached index of a file; None if it is missing, damaged or out of date."""
    try:
        with np.load(_place_of(folder, file), allow_pickle=False) as stored:
            if not np.array_equal(stored[STAMP], stamp):
                return None
            return {name: stored[name] for name in stored.files if name != STAMP}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def remember(folder: str, file: str, stamp: np.ndarray, index: Index) -> None:
    """Cache the index of a file."""
    # A temporary copy, unpacked from an archive, is never opened again.
    if file.startswith("/proc/"):
        return
    place = _place_of(folder, file)
    # If the cache can't be written, only the next start is slower.
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(place) as stream:
            arrays: dict[str, Any] = {STAMP: stamp, **index}
            np.savez(stream, **arrays)


def _place_of(folder: str, file: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(os.fsencode(Path(file).resolve())).hexdigest()
    return cache / "cvpipe" / folder / f"{name[:32]}.npz"
