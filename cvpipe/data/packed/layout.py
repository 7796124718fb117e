"""Byte ranges of records in an ArrayRecord file.

With these ranges, one request can read one or several adjacent records, without the index inside
the file. An ArrayRecord file is a Riegeli file: each block of 65,536 bytes begins with a header of
24 bytes, also in the middle of a record.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

BLOCK, HEADER = 65_536, 24
_BODY = BLOCK - HEADER


def find_records(content: bytes, records: Iterable[bytes]) -> np.ndarray:
    """Return begin and end of each record in an uncompressed file, int64 [R, 2]. `records` are in
    the order of the file.

    Raises:
        ValueError: a record isn't found.
    """
    body = b"".join(
        content[begin + HEADER : begin + BLOCK] for begin in range(0, len(content), BLOCK)
    )
    found, at = [], 0
    for record in records:
        at = body.index(record, at)
        found.append((at, at + len(record)))
        at += len(record)
    ranges = np.array(found, np.int64).reshape(-1, 2)
    # The end is just after the last byte, before any block header.
    last = ranges[:, 1] - (ranges[:, 1] > ranges[:, 0])
    begins, lasts = _in_file(ranges[:, 0]), _in_file(last)
    return np.stack([begins, lasts + (ranges[:, 1] > ranges[:, 0])], axis=1)


def cut_record(part: bytes, at: int, begin: int, end: int) -> bytes:
    """Return the record at bytes begin … end − 1 of a file, without block headers.

    Args:
        part: a part of the file that contains the record.
        at: position of the part in the file.
    """
    header = (begin // BLOCK + 1) * BLOCK
    if header >= end:
        return part[begin - at : end - at]
    pieces = [part[begin - at : header - at]]
    for block in range(header, end, BLOCK):
        pieces.append(part[block + HEADER - at : min(block + BLOCK, end) - at])
    return b"".join(pieces)


def _in_file(places: np.ndarray) -> np.ndarray:
    return places // _BODY * BLOCK + HEADER + places % _BODY
