"""Samples of WebDataset's tar archives, by number, from any thread.

Dimensions: R samples of a split.
"""

from __future__ import annotations

import json
import logging
import posixpath
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cvpipe.data.sources.record_files import Shard
from cvpipe.data.sources.tar_index import tar_entries
from cvpipe.data.sources.zip_entries import read_at
from cvpipe.errors import DataError, counted

log = logging.getLogger(__name__)


class Sample(NamedTuple):
    """Consecutive files with the same key."""

    shard: int
    key: str
    """Path up to the first dot of the file name."""
    files: dict[str, int]
    """Number of the archive's entry, by extension in lower case: the text after that dot."""


class Samples:
    """The samples of a split's archives, R in all."""

    def __init__(self, shards: Sequence[Shard]):
        """Find all samples. Warns of entries that aren't read.

        Raises:
            DataError: an archive is cut off or damaged, or a sample has two files with the same
                extension.
        """
        self.shards, self.samples = shards, list[Sample]()
        self._places = list[np.ndarray]()
        others, empty = list[str](), list[Shard]()
        for number, shard in enumerate(shards):
            entries = tar_entries(shard)
            self._places.append(entries.places)
            left_out = [*entries.left_out]
            for entry, name in enumerate(entries.names):
                key, extension = split_name(name)
                if not extension:
                    left_out.append(name)
                    continue
                last = self.samples[-1] if self.samples else None
                if last is None or (last.shard, last.key) != (number, key):
                    last = Sample(number, key, {})
                    self.samples.append(last)
                if extension in last.files:
                    raise DataError(
                        f"{shard.place}: the sample {key} has two files that end with"
                        f" .{extension}; write the archive again"
                    )
                last.files[extension] = entry
            others += [f"{name} in {shard.place}" for name in left_out]
            if not self.samples or self.samples[-1].shard != number:
                empty.append(shard)
        if empty:
            log.warning(
                "left out %s without a sample, such as %s; fetch or write them again if they should"
                " have some",
                counted(len(empty), "tar archive"),
                empty[0].place,
            )
        if others:
            log.warning(
                "left out %s that no sample has, such as %s: links, hidden files, names without an"
                " extension, or paths that lead out of the archive",
                counted(len(others), "entry", "entries"),
                others[0],
            )

    def __len__(self) -> int:
        return len(self.samples)

    def extension(self, record: int, wanted: Sequence[str]) -> str | None:
        """Return the first of some extensions that a sample has; None if it has none."""
        files = self.samples[record].files
        return next((name for name in wanted if name in files), None)

    def having(self, extension: str) -> list[int]:
        """Return the numbers of the samples that have a file with this extension."""
        return [n for n, sample in enumerate(self.samples) if extension in sample.files]

    def read(self, record: int, extension: str) -> bytes:
        """Return the content of a sample's file."""
        sample = self.samples[record]
        offset, length = self._places[sample.shard][sample.files[extension]].tolist()
        return read_at(self.shards[sample.shard].path, offset, length)

    def read_json(self, record: int, extension: str) -> Any:
        """Return the content of a sample's JSON file; raises DataError if it is damaged."""
        try:
            return json.loads(self.read(record, extension))
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{self.place(record, extension)}: not valid JSON ({error}); correct the file, or"
                " fetch the archive again"
            ) from None

    def name(self, record: int, extension: str | None) -> str:
        """Return the path of a sample's file: the path of its archive, then the path inside it."""
        sample = self.samples[record]
        end = f".{extension}" if extension else ""
        return f"{self.shards[sample.shard].name}/{sample.key}{end}"

    def place(self, record: int, extension: str | None) -> str:
        """Return the full path of a sample's file, for messages."""
        sample = self.samples[record]
        end = f".{extension}" if extension else ""
        return f"{self.shards[sample.shard].place}/{sample.key}{end}"


def split_name(name: str) -> tuple[str, str]:
    """Return the key and the extension of a file's path; "" for the extension if it has none."""
    key, _, extension = posixpath.basename(name).partition(".")
    return posixpath.join(posixpath.dirname(name), key), extension.lower()
