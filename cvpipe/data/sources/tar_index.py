"""Offsets of the files in tar archives, found by one pass over each archive and then cached.

Dimensions: M files.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cvpipe.data.sources.index_cache import Index, remember, remembered, stamp_of
from cvpipe.data.sources.listing import is_leftover
from cvpipe.data.sources.record_files import Shard
from cvpipe.errors import DataError

# For fewer files, scanning is as fast as a cache.
LEAST_REMEMBERED = 1_000
_CACHE_FOLDER = "tar"
_ADVICE = "fetch or write it again"
_PIECE = 2**20


class Entries(NamedTuple):
    """The files in an archive, in its order."""

    names: list[str]
    """[M], normalized paths."""
    places: np.ndarray
    """int64 [M, 2], offset and length in bytes."""
    left_out: list[str]
    """Names of entries that aren't plain files of the archive: links, devices, sparse files, hidden
    files, and paths that lead out of it.
    """


def tar_entries(shard: Shard) -> Entries:
    """Locate the files of a tar archive.

    Raises:
        DataError: the file can't be read, is no tar archive, or is cut off or damaged.
    """
    try:
        stamp = stamp_of(shard.path)
        index = remembered(_CACHE_FOLDER, shard.path, stamp)
        if index is None:
            index = _scan(shard)
            if len(index["places"]) >= LEAST_REMEMBERED:
                remember(_CACHE_FOLDER, shard.path, stamp, index)
        return Entries(_split(index["names"]), index["places"], _split(index["left_out"]))
    except OSError as error:
        raise DataError(f"{shard.place}: can't be read ({error.strerror}); {_ADVICE}") from None


def _scan(shard: Shard) -> Index:
    names, places, left_out = list[str](), list[tuple[int, int]](), list[str]()
    try:
        with tarfile.open(shard.path, "r:") as archive:
            for member in archive:
                name = posixpath.normpath(member.name)
                if member.isdir():
                    continue
                if member.isreg() and not member.issparse() and _is_inside(name):
                    names.append(name)
                    places.append((member.offset_data, member.size))
                else:
                    left_out.append(member.name)
            end = archive.offset
    except (tarfile.TarError, ValueError, OverflowError) as error:
        after = f" after {names[-1]}" if names else ""
        raise DataError(
            f"{shard.place}: not a valid tar archive{after} ({error}); {_ADVICE}"
        ) from None
    if not _is_end(shard.path, end):
        after = names[-1] if names else "its beginning"
        raise DataError(f"{shard.place}: cut off or damaged after {after}; {_ADVICE}")
    return {
        "names": _joined(names),
        "places": np.array(places, np.int64).reshape(-1, 2),
        "left_out": _joined(left_out),
    }


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return not name.startswith("/") and parts[0] != ".." and not any(map(is_leftover, parts))


def _is_end(path: str, offset: int) -> bool:
    """Return True if an archive ends at `offset`, with at least one block of zeros and only zeros
    after it.

    The tarfile module silently stops at a damaged header, and at the end of a file that is cut off.
    """
    with Path(path).open("rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size < offset + tarfile.BLOCKSIZE:
            return False
        file.seek(offset)
        while piece := file.read(_PIECE):
            if piece.strip(b"\0"):
                return False
    return True


def _joined(names: list[str]) -> np.ndarray:
    """Return names as bytes, uint8, with a zero after each; no name contains a zero."""
    content = b"".join(name.encode("utf-8", "surrogateescape") + b"\0" for name in names)
    return np.frombuffer(content, np.uint8)


def _split(joined: np.ndarray) -> list[str]:
    names = joined.tobytes().split(b"\0")[:-1]
    return [name.decode("utf-8", "surrogateescape") for name in names]
