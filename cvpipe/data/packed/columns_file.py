"""The columns file of a shard: annotations, names and checksums of its records as NumPy arrays.

Dimensions: R records of the shard.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cvpipe.data.annotations.columns import Columns
from cvpipe.errors import DataError

_RECORDS, _OBJECTS = "records/", "objects/"


class Names(NamedTuple):
    """Names of many records in two arrays."""

    letters: np.ndarray
    """uint8 [bytes]: all names in UTF-8, concatenated."""
    ends: np.ndarray
    """int64 [R]: end of each name."""

    def name(self, record: int) -> str:
        """Return the name of a record."""
        begin = int(self.ends[record - 1]) if record else 0
        letters = self.letters[begin : int(self.ends[record])].tobytes()
        return letters.decode("utf-8", "surrogateescape")


def make_names(names: Sequence[str]) -> Names:
    """Pack a list of names."""
    encoded = [name.encode("utf-8", "surrogateescape") for name in names]
    letters = np.frombuffer(b"".join(encoded), np.uint8)
    return Names(letters, np.cumsum([len(name) for name in encoded], dtype=np.int64))


def join_names(parts: Sequence[Names]) -> Names:
    """Concatenate the names of several parts."""
    starts = np.cumsum([0, *(len(part.letters) for part in parts)]).tolist()
    ends = [part.ends + start for part, start in zip(parts, starts, strict=False)]
    return Names(np.concatenate([part.letters for part in parts]), np.concatenate(ends))


class ColumnsFile(NamedTuple):
    """Content of a columns file: all data on the records of a shard except their images."""

    columns: Columns
    """Annotations."""
    positions: np.ndarray
    """int64 [R]: position of each record's example in its split."""
    checksums: np.ndarray
    """uint32 [R]: CRC-32 of each record."""
    digests: np.ndarray
    """uint64 [R]: fingerprint of each example, as `Source.digests`; of shape [0] if annotations
    differ from those of the original data.
    """
    ranges: np.ndarray
    """int64 [R, 2]: begin and end of each record in its file (`layout.py`)."""
    names: Names
    """Name of each record."""
    faults: Mapping[int, str]
    """Reasons why records couldn't be read at packing time, by record number."""
    sha256: str
    """Digest of the ArrayRecord file."""
    bytes: int
    """Size of the ArrayRecord file."""


def to_bytes(columns_file: ColumnsFile) -> bytes:
    """Serialize to the content of a columns file. Deterministic."""
    about = {
        "sha256": columns_file.sha256,
        "bytes": columns_file.bytes,
        "faults": {str(number): reason for number, reason in sorted(columns_file.faults.items())},
    }
    file = io.BytesIO()
    np.savez_compressed(
        file,
        allow_pickle=False,
        **{_RECORDS + name: array for name, array in columns_file.columns.records.items()},
        **{_OBJECTS + name: array for name, array in columns_file.columns.objects.items()},
        starts=columns_file.columns.starts,
        positions=columns_file.positions,
        checksums=columns_file.checksums,
        digests=columns_file.digests,
        ranges=columns_file.ranges,
        names=columns_file.names.letters,
        name_ends=columns_file.names.ends,
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
    )
    return file.getvalue()


def from_bytes(content: bytes, file: str) -> ColumnsFile:
    """Parse the content of a columns file. `file` is its name in error messages.

    Raises:
        DataError: the content is damaged.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = dict(stored)
        about = json.loads(arrays["about"].tobytes())
        return ColumnsFile(
            Columns(_named(arrays, _RECORDS), _named(arrays, _OBJECTS), arrays["starts"]),
            arrays["positions"],
            arrays["checksums"],
            arrays["digests"],
            arrays["ranges"],
            Names(arrays["names"], arrays["name_ends"]),
            {int(number): reason for number, reason in about["faults"].items()},
            about["sha256"],
            about["bytes"],
        )
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error):
        raise DataError(f"{file}: damaged; pack the data again") from None


def _named(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
