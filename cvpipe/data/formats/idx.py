"""MNIST's IDX files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from cvpipe.data.formats.found import ANNOTATED, CLASSIFICATION, Found, Place

_FILES = ("train-images", "train-labels", "t10k-images", "t10k-labels")


def find(place: Place) -> Iterator[Found]:
    """Yield MNIST's format if its four files exist."""
    names = [PurePosixPath(name).name for name in place.files.names()]
    there = [p for p in _FILES if any(n.startswith(p) and "-ubyte" in n for n in names)]
    if len(there) == len(_FILES):
        why = "the four IDX files of MNIST's format are there"
        remark = "The names of the classes are their numbers; name them in data.source.classes"
        source = {"kind": "idx", "path": place.path}
        yield Found(CLASSIFICATION, source, why, ANNOTATED, (remark,))
    elif there:
        missing = [prefix for prefix in _FILES if prefix not in there]
        place.near.append(
            f"of the IDX files {' and '.join(there)} are there, but not {' and '.join(missing)}"
        )
