"""Offsets of the records of TFRecord files, found by one pass over each file and then cached.

The index of a file is in $XDG_CACHE_HOME/cvpipe/tfrecord, or ~/.cache/cvpipe/tfrecord. It is valid
while the file has the same size and modification time.

Dimensions: R records.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from cvpipe.atomic_write import atomic_write
from cvpipe.errors import DataError

# For fewer records, scanning is as fast as a cache.
LEAST_REMEMBERED = 1_000


def tfrecord_places(file: str, records: int) -> np.ndarray:
    """Locate the first R = `records` records of a file: int64 [R, 2], offset and length in bytes.

    Raises:
        DataError: the file can't be read, or has fewer records.
    """
    try:
        status = Path(file).stat()
    except OSError as error:
        raise _unreadable(file, error) from None
    stamp = np.array([status.st_size, status.st_mtime_ns], np.int64)
    index = _index_of(file)
    known = _remembered(index, stamp)
    if known is not None and len(known) >= records:
        return known[:records]
    places = _scan(file, records)
    if records >= LEAST_REMEMBERED:
        # If the cache can't be written, only the next start is slower.
        with contextlib.suppress(OSError):
            index.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(index) as stream:
                np.savez(stream, stamp=stamp, places=places)
    return places


def _index_of(file: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(os.fsencode(Path(file).resolve())).hexdigest()
    return cache / "cvpipe" / "tfrecord" / f"{name[:32]}.npz"


def _remembered(index: Path, stamp: np.ndarray) -> np.ndarray | None:
    """Return a cached index; None if it is missing, damaged or of another file."""
    try:
        with np.load(index, allow_pickle=False) as stored:
            if not np.array_equal(stored["stamp"], stamp):
                return None
            places: np.ndarray = stored["places"]
            return places
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _scan(file: str, records: int) -> np.ndarray:
    """Find records: each is its length (8 bytes, little-endian), 4 bytes of checksum, its bytes,
    and 4 bytes of checksum.
    """
    places, at = np.zeros((records, 2), np.int64), 0
    try:
        with Path(file).open("rb", buffering=0) as opened:
            size = os.fstat(opened.fileno()).st_size
            for number in range(records):
                length = int.from_bytes(os.pread(opened.fileno(), 8, at), "little")
                begin, at = at + 12, at + 16 + length
                if at > size:
                    raise DataError(
                        f"{file}: cut off or damaged at record {number}; remove the data set and"
                        " prepare it again"
                    )
                places[number] = begin, length
    except OSError as error:
        raise _unreadable(file, error) from None
    return places


def _unreadable(file: str, error: OSError) -> DataError:
    return DataError(
        f"{file}: can't be read ({error.strerror}); remove the data set and prepare it again"
    )
