"""Rows of Parquet files: columns of annotations, and images by number.

Parquet files are read by row groups. Groups of images are kept as long as they fit into memory.
"""

from __future__ import annotations

import bisect
import io
import json
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cvpipe.data.sources.files import Files, FolderFiles
from cvpipe.data.sources.folder import split_of
from cvpipe.data.sources.source import ReadColumn, as_text
from cvpipe.errors import DataError, suggest

log = logging.getLogger(__name__)

_ORDER = ("all", "train", "validation", "test")
KEPT_BYTES = 2 * 2**30
"""Bytes of images that are kept in memory for each split."""


class Table(NamedTuple):
    """One Parquet file."""

    name: str
    place: str
    """Its path, or its location in an archive, for messages."""
    file: Any
    """pyarrow.parquet.ParquetFile."""
    features: Mapping[str, Any]
    """Metadata of the `datasets` library about each column, by name; empty if there is none."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.file.metadata.num_rows)

    def column(self, name: str) -> list[Any]:
        """Return a column as Python values.

        Raises:
            DataError: there is no such column, or the file is damaged.
        """
        self.check_column(name)
        try:
            values: list[Any] = self.file.read(columns=[name]).column(0).to_pylist()
        except (OSError, ValueError) as error:
            raise _damaged(self.place, error) from None
        return values

    def check_column(self, name: str) -> None:
        """Raise DataError if there is no column of this name."""
        known = self.file.schema_arrow.names
        if name not in known:
            raise DataError(f"{self.place}: no column '{name}'; {suggest(name, known)}")


def open_tables(files: Files, path: str) -> dict[str, list[Table]]:
    """Open the Parquet files of each split, or of one split named "all".

    Raises:
        DataError: there is no Parquet file, one is damaged, or pyarrow is missing.
    """
    names = [name for name in files.names() if name.lower().endswith(".parquet")]
    if not names:
        raise DataError(
            f"{path}: holds no .parquet file; set data.source.path to the folder of the Parquet"
            " files"
        )
    splits: dict[str, list[Table]] = {}
    for name in names:
        words = re.findall("[a-z]+", name.lower())
        found = [split for split in map(split_of, words) if split]
        splits.setdefault(found[-1] if found else "all", []).append(open_table(files, name))
    return {split: splits[split] for split in _ORDER if split in splits}


def open_table(files: Files, name: str) -> Table:
    """Open a Parquet file. Raises the same errors as `open_tables`."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError(
            f"{files.locate(name)}: reading Parquet needs pyarrow; install it with: pip install"
            " 'cvpipe[parquet]'"
        ) from None
    place = files.locate(name)
    try:
        is_file = isinstance(files, FolderFiles)
        file = ParquetFile(place if is_file else io.BytesIO(files.read(name)))
    except (OSError, ValueError, ArrowException) as error:
        raise _damaged(place, error) from None
    return Table(name, place, file, _features(file.schema_arrow.metadata or {}))


def class_names(features: Mapping[str, Any], *path: str) -> tuple[str, ...]:
    """Return the class names in the `datasets` library's metadata for a column or one of its
    fields; empty if there are none.
    """
    node: Any = features
    for key in path:
        node = _find(node, key)
    names = _find(node, "names")
    known = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if known else ()


def column_reader(tables: Sequence[Table]) -> ReadColumn:
    """Return a reader of the columns of a split's rows. Class numbers are replaced by class
    names.
    """

    def read(column: str, _: str) -> list[str]:
        names = dict(enumerate(class_names(tables[0].features, column)))
        values = [value for table in tables for value in table.column(column)]
        return [as_text(names.get(value, value) if names else value) for value in values]

    return read


class Images:
    """The images of a split by number. Thread-safe."""

    def __init__(self, tables: Sequence[Table], column: str, path: str):
        self._groups = [
            (table, group) for table in tables for group in range(table.file.num_row_groups)
        ]
        sizes = [table.file.metadata.row_group(group).num_rows for table, group in self._groups]
        self._ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
        self._column, self._lock = column, threading.Lock()
        self._kept: OrderedDict[int, tuple[list[bytes | str], int]] = OrderedDict()
        total = sum(
            table.file.metadata.row_group(group).total_byte_size for table, group in self._groups
        )
        if total > KEPT_BYTES:
            log.warning(
                "%s: %.1f GB of images are more than the %.1f GB kept in memory, so row groups are"
                " read repeatedly; write the images to files first, with: cvpipe data convert",
                path,
                total / 2**30,
                KEPT_BYTES / 2**30,
            )

    def read(self, row: int) -> bytes:
        """Return the encoded image of a row.

        Raises:
            DataError: the row has no image, or the file is damaged.
        """
        number = bisect.bisect_right(self._ends, row)
        before = self._ends[number - 1] if number else 0
        # A file can be read by only one thread at a time.
        with self._lock:
            value = self._group(number)[row - before]
        if isinstance(value, str):
            raise DataError(value)
        return value

    def _group(self, number: int) -> list[bytes | str]:
        """Return the content of each image in a row group, or the reason why there is none."""
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number][0]
        table, group = self._groups[number]
        try:
            rows = table.file.read_row_group(group, columns=[self._column]).column(0).to_pylist()
        except (OSError, ValueError) as error:
            raise _damaged(table.place, error) from None
        images = [_content(value) for value in rows]
        self._kept[number] = images, sum(map(len, images))
        while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return images


def row_names(tables: Sequence[Table]) -> Iterator[str]:
    """Yield the name of each row: its file, and its number counted from 0."""
    for table in tables:
        yield from (f"{table.name} row {row}" for row in range(table.rows))


def _content(value: Any) -> bytes | str:
    if isinstance(value, dict):
        content, named = value.get("bytes"), value.get("path")
        if content is None and named:
            return f"the row names {named} but doesn't contain the image"
        value = content
    return value if isinstance(value, bytes) else "the row holds no image"


def _features(metadata: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _find(node: Any, key: str) -> Any:
    """Return the first value of a key in nested values, depth first; None if there is none."""
    if isinstance(node, dict):
        if key in node:
            return node[key]
        node = list(node.values())
    for child in node if isinstance(node, list) else ():
        found = _find(child, key)
        if found is not None:
            return found
    return None


def _damaged(place: str, error: Exception) -> DataError:
    return DataError(f"{place}: not a valid Parquet file ({error}); fetch or write it again")
