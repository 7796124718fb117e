"""Packing of every split of a source, in parallel and resumable.

The columns file of a shard is written last, so a shard that has a columns file is complete. The
manifest follows all shards. The files depend only on the data and the options, not on the number of
workers or on interruptions.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cvpipe.atomic_write import atomic_path
from cvpipe.data.order import fixed_order
from cvpipe.data.packed.columns_file import ColumnsFile, from_bytes, to_bytes
from cvpipe.data.packed.manifest import (
    MANIFEST,
    Manifest,
    Shard,
    Split,
    read_manifest,
    write_manifest,
)
from cvpipe.data.packed.reduce import Reduction
from cvpipe.data.packed.shard import ShardWriter
from cvpipe.data.sources.source import Source
from cvpipe.data.statistics import evenly_spaced
from cvpipe.errors import ConfigError, DataError
from cvpipe.storage import (
    address,
    delete_file,
    file_names,
    is_bucket,
    make_folder,
    publish,
    read_file,
    write_file,
)

PLAN = "packing.json"
# Default size of a shard. A shard is downloaded in seconds and is large enough for many requests of
# a megabyte.
SHARD_BYTES = 256 * 2**20
# Number of records whose sizes determine the records per shard.
SAMPLE = 32
# Splits for training. Their records are shuffled, so adjacent records in a file are a random
# sample.
_MIXED = ("train", "all")


class Task(NamedTuple):
    """A shard to write."""

    split: str
    """Name of the split."""
    begin: int
    """First position in the split's order."""
    end: int
    """End position, exclusive."""
    name: str
    """Name of the ArrayRecord file."""

    @property
    def columns(self) -> str:
        """Name of the columns file."""
        return f"{self.name.removesuffix('.array_record')}.columns.npz"


def pack(
    splits: Mapping[str, Source],
    place: str,
    about: Mapping[str, Any],
    reduction: Reduction,
    *,
    shard_bytes: int = SHARD_BYTES,
    workers: int = 1,
    watch: Callable[[int, int], None] = lambda done, examples: None,
) -> Manifest:
    """Pack data, or resume packing. Returns at once if the packed data is complete.

    Args:
        splits: the splits of the source, from `open_source`.
        place: a folder, or an address in a bucket.
        about: format and location of the data, for the manifest; "files" is their fingerprint.
        reduction: changes to images.
        shard_bytes: approximate size of a shard.
        workers: number of shards that are written in parallel.
        watch: called with the number of examples written and the number of all examples.

    Raises:
        ConfigError: the place contains something else.
        DataError: files can't be written.
    """
    splits = {name: source for name, source in splits.items() if len(source)}
    make_folder(place)
    # Leftovers of a killed process have hidden names and are overwritten.
    there = {name for name in file_names(place) if not name.startswith(".")}
    fingerprint = _fingerprint_of(splits, about, reduction)
    if MANIFEST in there:
        manifest = read_manifest(place)
        _refuse_other(place, _fingerprint(manifest), fingerprint)
        return manifest
    writers = {name: ShardWriter(source, reduction) for name, source in splits.items()}
    plan = {**fingerprint, "shards": _shard_sizes(splits, writers, shard_bytes)}
    if PLAN in there:
        _refuse_other(place, json.loads(read_file(place, PLAN)), plan)
    elif there:
        raise ConfigError(
            f"{place}: the folder is not empty and holds something else; choose another folder with"
            " --to"
        )
    else:
        write_file(place, PLAN, (json.dumps(plan, indent=1) + "\n").encode())
    tasks = list(_tasks(splits, plan["shards"]))
    examples, done = sum(map(len, splits.values())), 0
    shards: dict[Task, Shard] = {}
    waiting = [task for task in tasks if task.columns not in there]
    for task in tasks:
        if task.columns in there:
            shards[task] = _finished(place, task)
            done += task.end - task.begin
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        futures = {
            pool.submit(_write, writers[task.split], len(splits[task.split]), task, place): task
            for task in waiting
        }
        try:
            for future in as_completed(futures):
                task = futures[future]
                shards[task] = future.result()
                done += task.end - task.begin
                watch(done, examples)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    manifest = _manifest(splits, writers, about, reduction, shards)
    write_manifest(place, manifest)
    delete_file(place, PLAN)
    return manifest


def _shard_sizes(
    splits: Mapping[str, Source], writers: Mapping[str, ShardWriter], shard_bytes: int
) -> dict[str, int]:
    """Return the number of records in a shard of each split."""
    shards = {}
    for name, source in splits.items():
        sizes = writers[name].sizes(evenly_spaced(len(source), SAMPLE))
        mean = max(sum(sizes) / max(len(sizes), 1), 1)
        shards[name] = max(min(int(shard_bytes / mean), len(source)), 1)
    return shards


def _fingerprint_of(
    splits: Mapping[str, Source], about: Mapping[str, Any], reduction: Reduction
) -> dict[str, Any]:
    return {
        "files": about.get("files"),
        "options": reduction._asdict(),
        "digests": {name: source.digest() for name, source in splits.items()},
    }


def _fingerprint(manifest: Manifest) -> dict[str, Any]:
    digests = {name: split.digest for name, split in manifest.splits.items()}
    files = manifest.source.get("files")
    return {"files": files, "options": dict(manifest.options), "digests": digests}


def _refuse_other(place: str, known: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ConfigError if a place holds packed data, complete or not, of other data or options."""
    for key, text in (
        ("digests", "from other data"),
        ("options", "with other options"),
        ("shards", "with another size of shards"),
    ):
        if known.get(key) != now.get(key):
            raise ConfigError(
                f"{place}: was packed {text}; choose another place with --to, or remove it"
            )
    # Images, and masks in files, aren't part of the digests.
    files = known.get("files"), now.get("files")
    if None not in files and files[0] != files[1]:
        raise ConfigError(
            f"{place}: was packed from files that have changed since, or were copied; remove it, or"
            " choose another place with --to, to pack the files as they are now"
        )


def _tasks(splits: Mapping[str, Source], sizes: Mapping[str, int]) -> Iterator[Task]:
    for split, source in splits.items():
        size, examples = sizes[split], len(source)
        count = -(-examples // size)
        for number in range(count):
            name = f"{split}-{number:05d}-of-{count:05d}.array_record"
            yield Task(split, number * size, min((number + 1) * size, examples), name)


def _write(writer: ShardWriter, examples: int, task: Task, place: str) -> Shard:
    """Write a shard of a split and, once it is complete, its columns file. `examples` is the number
    of examples in the split.
    """
    index = np.arange(task.begin, task.end)
    if task.split in _MIXED:
        index = fixed_order(examples, task.begin, task.end)
    if is_bucket(place):
        folder = Path(tempfile.mkdtemp(prefix="cvpipe-pack-"))
        try:
            columns_file = writer.write(index, folder / task.name)
            publish(folder / task.name, place, task.name)
        finally:
            shutil.rmtree(folder)
    else:
        with atomic_path(Path(address(place, task.name))) as partial:
            columns_file = writer.write(index, partial)
    content = to_bytes(columns_file)
    write_file(place, task.columns, content)
    return _shard(task, columns_file, content)


def _finished(place: str, task: Task) -> Shard:
    content = read_file(place, task.columns)
    return _shard(task, from_bytes(content, address(place, task.columns)), content)


def _shard(task: Task, columns_file: ColumnsFile, content: bytes) -> Shard:
    digest = hashlib.sha256(content).hexdigest()
    return Shard(
        task.name,
        task.columns,
        task.end - task.begin,
        columns_file.bytes,
        columns_file.sha256,
        digest,
    )


def _manifest(
    splits: Mapping[str, Source],
    writers: Mapping[str, ShardWriter],
    about: Mapping[str, Any],
    reduction: Reduction,
    shards: Mapping[Task, Shard],
) -> Manifest:
    first = next(iter(splits.values()))
    if any(source.facts != first.facts for source in splits.values()):
        raise DataError("the splits of the data have different classes; pack them separately")
    return Manifest(
        first.facts,
        tuple(type(annotation).__name__.lower() for annotation in first.annotations),
        about,
        reduction._asdict(),
        {
            name: Split(
                len(source),
                source.digest(),
                writers[name].specs,
                tuple(shards[task] for task in sorted(shards) if task.split == name),
            )
            for name, source in splits.items()
        },
    )
