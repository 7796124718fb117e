"""Records of the shards of a split by number, in any order and from any thread.

Every record is compared with its checksum; records that were announced are read ahead, neighbors
together.
"""

from __future__ import annotations

import bisect
import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from cvpipe.errors import DataError
from cvpipe.storage import is_bucket

# Open files; a process may have 1,024 of them.
OPEN_FILES = 256
# Requests at once.
REQUESTS = 64
# Announced records that are kept although nobody has asked for them.
_KEPT = 4


class Shards:
    """Reading of a split's records."""

    def __init__(
        self,
        files: Sequence[str],
        sizes: Sequence[int],
        checksums: np.ndarray,
        faults: Mapping[int, str],
        ahead: int = 0,
    ):
        """Read `files`, of so many records each, opening them as they are needed.

        Args:
            checksums: uint32 [R], CRC-32 of each record.
            faults: reasons why records couldn't be packed, by number.
            ahead: records that are announced at once.
        """
        self._files, self._sizes, self._checksums = files, sizes, checksums
        self._faults = faults
        self._ends = np.cumsum(sizes).tolist()
        self._most = _KEPT * ahead
        self._readers: OrderedDict[int, Any] = OrderedDict()
        self._coming: OrderedDict[int, tuple[Future[list[bytes]], int]] = OrderedDict()
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def read(self, record: int) -> bytes:
        """Return a record.

        Raises:
            DataError: it couldn't be packed, can't be read, or is damaged.
        """
        if record in self._faults:
            raise DataError(self._faults[record])
        with self._lock:
            coming = self._coming.pop(record, None)
        content = self._arrived(coming) if coming else None
        if content is None:
            [content] = self._fetch(*self._place(record), 1)
        if zlib.crc32(content) != self._checksums[record]:
            raise DataError("the record is damaged: its checksum is another than when it was packed")
        return content

    def announce(self, records: np.ndarray) -> None:
        """Begin to read records, int64 [n]; neighbors in one request."""
        wanted = np.unique(records)
        shards = np.searchsorted(self._ends, wanted, side="right")
        # A new request where a record isn't the last one's neighbor in the same file.
        cuts = np.flatnonzero((np.diff(wanted) != 1) | (np.diff(shards) != 0)) + 1
        for run in np.split(wanted, cuts):
            first = int(run[0])
            shard, position = self._place(first)
            request = self._threads().submit(self._fetch, shard, position, len(run))
            with self._lock:
                for number in range(len(run)):
                    self._coming[first + number] = request, number
                    self._coming.move_to_end(first + number)
                while len(self._coming) > max(self._most, len(run)):
                    self._coming.popitem(last=False)

    def _arrived(self, coming: tuple[Future[list[bytes]], int]) -> bytes | None:
        """Return a record that was announced; None if its request failed, as one bad record makes
        its neighbors' fail.
        """
        request, number = coming
        try:
            return request.result()[number]
        except DataError:
            return None

    def _place(self, record: int) -> tuple[int, int]:
        """Return a record's shard, and its position there."""
        shard = bisect.bisect_right(self._ends, record)
        return shard, record - (self._ends[shard - 1] if shard else 0)

    def _fetch(self, shard: int, position: int, count: int) -> list[bytes]:
        try:
            reader = self._reader(shard)
            found: list[bytes] = (
                reader.read([position]) if count == 1 else reader.read(position, position + count)
            )
        # The errors of ArrayRecord's own clients can't be foreseen.
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise DataError(f"the record can't be read ({text})") from None
        if len(found) != count:
            raise DataError("the record can't be read (its file ends before it)")
        return found

    def _reader(self, shard: int) -> Any:
        with self._lock:
            reader = self._readers.get(shard)
            if reader is not None:
                self._readers.move_to_end(shard)
                return reader
        # Outside the lock, as it may take several requests; of two, one is thrown away.
        reader = _open(self._files[shard])
        if reader.num_records() != self._sizes[shard]:
            raise ValueError(f"{self._files[shard]} is damaged")
        with self._lock:
            self._readers[shard] = reader
            # A dropped reader closes its file once nobody reads with it.
            while len(self._readers) > OPEN_FILES and not is_bucket(self._files[shard]):
                self._readers.popitem(last=False)
        return reader

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(REQUESTS, "cvpipe-packed")
            return self._pool


def _open(file: str) -> Any:
    from array_record.python.array_record_module import ArrayRecordReader

    return ArrayRecordReader(
        file, options="readahead_buffer_size:0,max_parallelism:0", file_reader_buffer_size=32_768
    )
