"""Random access to the records of a split's shards, from any thread.

Every record is verified with its checksum. Announced records are read in advance, and adjacent
records by one request.
"""

from __future__ import annotations

import bisect
import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from cvpipe.data.packed.layout import cut_record
from cvpipe.errors import DataError
from cvpipe.storage import read_range

# Concurrent requests.
REQUESTS = 64
# Maximum number of bytes between two records of one request. Reading this gap, such as held-out
# examples, takes less time than another request.
GAP = 2**20
# Maximum number of announced records that are kept unread.
_KEPT = 4


class Coming(NamedTuple):
    """A record that was announced."""

    request: Future[list[bytes]]
    """The request that reads the record."""
    number: int
    """Index of the record in the request."""
    readers: int
    """Number of announced reads that are still to come."""


class Shards:
    """Reading of a split's records."""

    def __init__(
        self,
        files: Sequence[str],
        ranges: Sequence[np.ndarray],
        checksums: np.ndarray,
        faults: Mapping[int, str],
        ahead: int = 0,
    ):
        """Read `files`.

        Args:
            ranges: int64 [records, 2] for each file: begin and end of its records.
            checksums: uint32 [R], CRC-32 of each record.
            faults: reasons why records couldn't be packed, by number.
            ahead: number of records that are announced together.
        """
        self._files, self._checksums, self._faults = files, checksums, faults
        self._ends = np.cumsum([len(each) for each in ranges]).tolist()
        self._ranges = np.concatenate(ranges)
        self._most = _KEPT * ahead
        self._coming: OrderedDict[int, Coming] = OrderedDict()
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def read(self, record: int) -> bytes:
        """Return a record.

        Raises:
            DataError: the record couldn't be packed, can't be read, or is damaged.
        """
        if record in self._faults:
            raise DataError(self._faults[record])
        with self._lock:
            coming = self._coming.pop(record, None)
            if coming and coming.readers > 1:
                self._coming[record] = coming._replace(readers=coming.readers - 1)
        content = self._arrived(coming) if coming else None
        if content is None:
            [content] = self._fetch([record])
        if zlib.crc32(content) != self._checksums[record]:
            raise DataError(
                "the record is damaged: its checksum differs from the checksum at packing"
            )
        return content

    def announce(self, records: np.ndarray) -> None:
        """Start reading records, int64 [n], in other threads. Records that are close together are
        read by one request.
        """
        wanted = np.unique(records)
        wanted = wanted[[not self._is_coming(record) for record in wanted.tolist()]]
        if not len(wanted):
            return
        shards = np.searchsorted(self._ends, wanted, side="right")
        between = self._ranges[wanted[1:], 0] - self._ranges[wanted[:-1], 1]
        cuts = np.flatnonzero((between > GAP) | (np.diff(shards) != 0)) + 1
        for run in np.split(wanted, cuts):
            together = run.tolist()
            request = self._threads().submit(self._fetch, together)
            with self._lock:
                for number, record in enumerate(together):
                    self._coming[record] = Coming(request, number, 1)
                    self._coming.move_to_end(record)
                while len(self._coming) > max(self._most, len(together)):
                    self._coming.popitem(last=False)

    def _is_coming(self, record: int) -> bool:
        """Count another reader of a record that is already announced, for example for the previous
        epoch; return False if the record isn't announced.
        """
        with self._lock:
            coming = self._coming.get(record)
            if coming is None:
                return False
            self._coming[record] = coming._replace(readers=coming.readers + 1)
            self._coming.move_to_end(record)
            return True

    def _arrived(self, coming: Coming) -> bytes | None:
        """Return a record that was announced; None if its request failed."""
        try:
            return coming.request.result()[coming.number]
        except DataError:
            return None

    def _fetch(self, records: Sequence[int]) -> list[bytes]:
        """Read records of one file, in order, by one request."""
        ranges = self._ranges[records].tolist()
        file = self._files[bisect.bisect_right(self._ends, records[0])]
        begin, end = ranges[0][0], ranges[-1][1]
        part = read_range(file, begin, end) if end > begin else b""
        return [cut_record(part, begin, *each) for each in ranges]

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(REQUESTS, "cvpipe-packed")
            return self._pool
