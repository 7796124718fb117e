"""Offsets of the records of TFRecord files, found by one pass over each file and then cached.

A record is its length (8 bytes, little-endian), 4 bytes of checksum, its bytes, and 4 bytes of
checksum.

Dimensions: R records.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from cvpipe.data.sources.crc32c import masked_crc32c
from cvpipe.data.sources.index_cache import remember, remembered, stamp_of
from cvpipe.errors import DataError

# For fewer records, scanning is as fast as a cache.
LEAST_REMEMBERED = 1_000
_CACHE_FOLDER, _PLACES = "tfrecord", "places"
_PREPARE = "remove the data set and prepare it again"


def tfrecord_places(file: str, records: int | None, advice: str = _PREPARE) -> np.ndarray:
    """Locate the first R = `records` records of a file, or all: int64 [R, 2], offset and length in
    bytes.

    Args:
        file: path of the file.
        records: R; None for all.
        advice: end of error messages.

    Raises:
        DataError: the file can't be read, has fewer records, or the length of a record is damaged.
    """
    try:
        stamp = stamp_of(file)
    except OSError as error:
        raise _unreadable(file, error, advice) from None
    known = (remembered(_CACHE_FOLDER, file, stamp) or {}).get(_PLACES)
    if known is not None and _is_enough(known, records, int(stamp[0])):
        return known[:records]
    places = _scan(file, records, advice)
    if len(places) >= LEAST_REMEMBERED:
        remember(_CACHE_FOLDER, file, stamp, {_PLACES: places})
    return places


def _is_enough(places: np.ndarray, records: int | None, size: int) -> bool:
    """Return True if `places` has all wanted records, or all records of a file of `size` bytes."""
    if records is not None:
        return len(places) >= records
    return len(places) > 0 and int(places[-1].sum()) + 4 == size


def _scan(file: str, records: int | None, advice: str) -> np.ndarray:
    places, at = list[tuple[int, int]](), 0
    try:
        with Path(file).open("rb", buffering=0) as opened:
            size = os.fstat(opened.fileno()).st_size
            while at < size if records is None else len(places) < records:
                head = os.pread(opened.fileno(), 12, at)
                length = int.from_bytes(head[:8], "little")
                begin, at = at + 12, at + 16 + length
                if at > size or masked_crc32c(head[:8]) != head[8:]:
                    raise DataError(f"{file}: cut off or damaged at record {len(places)}; {advice}")
                places.append((begin, length))
    except OSError as error:
        raise _unreadable(file, error, advice) from None
    return np.array(places, np.int64).reshape(-1, 2)


def _unreadable(file: str, error: OSError, advice: str) -> DataError:
    return DataError(f"{file}: can't be read ({error.strerror}); {advice}")
