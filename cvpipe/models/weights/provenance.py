"""Origin of weights, recorded in a run, in the model card and in the artifact."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Provenance(NamedTuple):
    """Source, license and checksum of pretrained weights."""

    source: str
    """Package and training, or a file."""
    license: str | None
    """SPDX identifier; None if unknown."""
    sha256: str | None
    """SHA-256 of the file; None if Keras downloads it."""


def of_file(path: Path) -> Provenance:
    """Return the provenance of a file without metadata."""
    return of_files([path], str(path))


def of_files(paths: Sequence[Path], source: str) -> Provenance:
    """Return the provenance of files without metadata; one checksum covers all files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return Provenance(source, None, digest.hexdigest())
