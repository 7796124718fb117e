"""Guards places of records: bytes cut out of an ArrayRecord file are what ArrayRecord reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from cvpipe.data.packed.layout import BLOCK, cut_record, find_records
from cvpipe.data.packed.shard import WRITER_OPTIONS


def write(file: Path, records: list[bytes]) -> bytes:
    writer = ArrayRecordWriter(str(file), WRITER_OPTIONS)
    for record in records:
        writer.write(record)
    writer.close()
    return file.read_bytes()


def test_records_of_any_size_are_cut_out_alone_and_with_their_neighbors(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sizes = [0, 1, 40, BLOCK - 24, BLOCK, 0, 3 * BLOCK + 7, *random.integers(0, 40_000, 60)]
    records = [random.bytes(int(size)) for size in sizes]
    content = write(tmp_path / "some.array_record", records)
    ranges = find_records(content, records)
    for number, record in enumerate(records):
        begin, end = ranges[number].tolist()
        assert cut_record(content[begin:end], begin, begin, end) == record
    for first in range(0, len(records) - 5, 5):
        begin, end = int(ranges[first, 0]), int(ranges[first + 4, 1])
        part = content[begin:end]
        cut = [cut_record(part, begin, *ranges[n].tolist()) for n in range(first, first + 5)]
        assert cut == records[first : first + 5]
    # ArrayRecord's own reader reads the same records.
    source = ArrayRecordDataSource([str(tmp_path / "some.array_record")])
    assert [source[number] for number in range(len(source))] == records


def test_records_in_another_order_are_not_found(tmp_path: Path) -> None:
    content = write(tmp_path / "some.array_record", [b"one", b"two"])
    with pytest.raises(ValueError, match="not found"):
        find_records(content, [b"two", b"one"])
