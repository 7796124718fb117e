"""A fingerprint of the files that data is packed from, by which later changes are noticed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from cvpipe.config.source import Merge, Source
from cvpipe.user_paths import find_path


def fingerprint(section: Source) -> str | None:
    """Return a digest of the names, sizes and times of change of all files at the source's paths;
    None for data without files on this machine.
    """
    sources = section.sources if isinstance(section, Merge) else (section,)
    paths = [find_path(path) for source in sources if (path := getattr(source, "path", ""))]
    rows = [row for path in paths for row in _rows(path)]
    return hashlib.sha256("".join(rows).encode()).hexdigest()[:16] if rows else None


def _rows(place: Path) -> Iterator[str]:
    """Yield a line for each file at or below a path, in a fixed order."""
    if place.is_file():
        yield _row(place, "")
    seen = set[str]()
    for folder, folders, files in os.walk(place, followlinks=True):
        # A link to a folder above would be followed forever.
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(files):
            file = Path(folder, name)
            if file.exists():
                yield _row(file, os.path.relpath(file, place))


def _row(file: Path, name: str) -> str:
    state = file.stat()
    return f"{name!a} {state.st_size} {state.st_mtime_ns}\n"
