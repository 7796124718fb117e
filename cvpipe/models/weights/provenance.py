"""Origin of weights, recorded in a run, in the model card and in the artifact."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple


class Provenance(NamedTuple):
    """Source, license and checksum of given weights."""

    source: str
    """Package and training, or a file."""
    license: str | None
    """SPDX identifier; None if unknown."""
    sha256: str | None
    """SHA-256 of the file; None if Keras downloads it."""


def of_file(path: Path) -> Provenance:
    """Return the provenance of a file without metadata."""
    with path.open("rb") as stream:
        return Provenance(str(path), None, hashlib.file_digest(stream, "sha256").hexdigest())
