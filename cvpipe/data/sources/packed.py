"""Packed data from `cvpipe data pack`: annotations in memory, random access to images.

Dimensions: R records of a split, in another order than the examples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from cvpipe.config.packed import Packed
from cvpipe.data import annotations as kinds
from cvpipe.data.annotations.annotation import Annotation
from cvpipe.data.annotations.columns import join_columns
from cvpipe.data.example import Example
from cvpipe.data.facts import Facts
from cvpipe.data.graph import read_in_python
from cvpipe.data.packed.columns_file import from_bytes, join_names
from cvpipe.data.packed.manifest import Manifest, Shard, Split, read_manifest
from cvpipe.data.packed.record import from_record
from cvpipe.data.packed.shards import Shards
from cvpipe.data.sources.source import ReadAhead, Source
from cvpipe.errors import DataError
from cvpipe.storage import address, file_names, is_bucket, read_file
from cvpipe.user_paths import find_path

# Number of columns files that are read in parallel.
_AT_ONCE = 32


def packed(config: Packed) -> dict[str, Source]:
    """Return the packed splits. Reads every columns file; images are verified when they are read.

    Raises:
        DataError: there is no packed data, files are missing or damaged, or the annotations don't
            fit the task.
    """
    place = _place(config)
    manifest = read_manifest(place)
    if manifest.annotations != config.annotations:
        raise DataError(
            f"{place}: packed data with {' and '.join(manifest.annotations)}, but the task learns"
            f" from {' and '.join(config.annotations)}; give a source with these annotations"
        )
    missing = sorted(_files(manifest) - file_names(place))
    if missing:
        raise DataError(
            f"{place}: {missing[0]} is missing, one of {len(missing)} missing files; pack the data"
            " again, or copy all files"
        )
    classes = [_kind(name, place) for name in manifest.annotations]
    return {
        name: _source(place, manifest.facts, split, classes, config)
        for name, split in manifest.splits.items()
    }


def damaged_files(config: Packed) -> Iterator[tuple[str, bool]]:
    """Verify all files with the manifest: yield each name, and True if the file is damaged."""
    place = _place(config)
    for split in read_manifest(place).splits.values():
        for shard in split.shards:
            for name, known in ((shard.file, shard.sha256), (shard.columns, shard.columns_sha256)):
                yield name, hashlib.sha256(read_file(place, name)).hexdigest() != known


def _place(config: Packed) -> str:
    return config.path if is_bucket(config.path) else str(find_path(config.path))


def _files(manifest: Manifest) -> set[str]:
    return {
        name
        for split in manifest.splits.values()
        for shard in split.shards
        for name in (shard.file, shard.columns)
    }


def _kind(name: str, place: str) -> type[Annotation]:
    for kind in kinds.KINDS:
        if kind.__name__.lower() == name:
            return kind
    raise DataError(
        f"{place}: an annotation of the kind {name}, which this version of cvpipe doesn't know;"
        " upgrade cvpipe"
    )


def _source(
    place: str, facts: Facts, split: Split, classes: list[type[Annotation]], config: Packed
) -> Source:
    def read_columns(shard: Shard) -> bytes:
        content = read_file(place, shard.columns)
        if hashlib.sha256(content).hexdigest() != shard.columns_sha256:
            file = address(place, shard.columns)
            raise DataError(f"{file}: damaged; restore it, or pack the data again")
        return content

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        # NumPy parses headers as Python code, and Python 3.11's parser isn't safe in threads: it
        # sometimes raises "SystemError: AST constructor recursion depth mismatch". So only this
        # thread parses.
        parts = [
            from_bytes(content, address(place, shard.columns))
            for shard, content in zip(
                split.shards, pool.map(read_columns, split.shards), strict=True
            )
        ]
    columns, names = (
        join_columns([part.columns for part in parts]),
        join_names([part.names for part in parts]),
    )
    sizes = [len(part.positions) for part in parts]
    starts = np.cumsum([0, *sizes]).tolist()
    shards = Shards(
        [address(place, shard.file) for shard in split.shards],
        [part.ranges for part in parts],
        np.concatenate([part.checksums for part in parts]),
        {
            start + number: reason
            for start, part in zip(starts, parts, strict=False)
            for number, reason in part.faults.items()
        },
        config.ahead,
    )

    def read_record(record: tf.Tensor) -> Example:
        return from_record(read_in_python(shards.read, record), split.tensors)

    digests = np.concatenate([part.digests for part in parts])
    records = np.empty(split.examples, np.int64)
    records[np.concatenate([part.positions for part in parts])] = np.arange(split.examples)
    return Source(
        facts,
        tuple(kind.from_columns(columns, facts) for kind in classes),
        read_record,
        names.name,
        lambda record: f"{place}: {names.name(record)}",
        records,
        ReadAhead(config.block, config.ahead, shards.announce) if config.ahead else None,
        digests if len(digests) == split.examples else None,
    )
