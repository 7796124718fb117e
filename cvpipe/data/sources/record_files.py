"""Files with many examples each: their splits, and files of archives unpacked for random access."""

from __future__ import annotations

import logging
import posixpath
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import IO, NamedTuple

from cvpipe.config.record_files import RecordFiles
from cvpipe.data.sources.files import Files, FolderFiles
from cvpipe.data.sources.folder import split_of
from cvpipe.data.sources.splits import check_folder_splits
from cvpipe.errors import DataError, counted, suggest

log = logging.getLogger(__name__)

_ORDER = ("all", "train", "validation", "test")
# More files in one pattern are a mistake, such as {0..99999999}.
_MOST_FILES = 1_000_000
_GZIP = b"\x1f\x8b"


class Shard(NamedTuple):
    """A file with many examples."""

    name: str
    """Path relative to the folder or archive."""
    place: str
    """Path for messages."""
    path: str
    """Path of the file, or of its unpacked copy."""
    copy: IO[bytes] | None
    """The unpacked copy, which vanishes when it is closed; None for a file of a folder."""


def open_shards(
    files: Files, config: RecordFiles, names: Iterable[str], kind: str
) -> dict[str, list[Shard]]:
    """Return the files of each split, or of one split named "all", in order. Empty files are left
    out with a warning.

    Args:
        files: the folder or archive.
        config: the section of the source.
        names: files that may have examples, if no pattern is given.
        kind: kind of file in messages, such as "TFRecord file".

    Raises:
        DataError: there is no file, a pattern fits no file, a file belongs to two splits or is
            compressed, or the training split has no file.
    """
    if config.patterns:
        splits = _by_pattern(files, config)
    else:
        splits = splits_by_words(config.path, names, kind)
    if not splits:
        raise DataError(
            f"{config.path}: holds no {kind}; set data.source.path to the folder of the files, and"
            " data.source.train to a pattern of their names"
        )
    found, empty = dict[str, list[Shard]](), list[str]()
    for split in (name for name in _ORDER if name in splits):
        for name in splits[split]:
            shard = open_shard(files, name)
            if first_bytes(shard, 1):
                found.setdefault(split, []).append(shard)
            else:
                empty.append(name)
    if empty:
        log.warning(
            "%s: left out %s, such as %s; fetch or write them again if they should have examples",
            config.path,
            counted(len(empty), "empty file"),
            empty[0],
        )
    if not found.keys() & {"train", "all"}:
        raise DataError(
            f"{config.path}: each {kind} of the training split is empty; fetch or write them again"
        )
    return found


def open_shard(files: Files, name: str) -> Shard:
    """Open a file; a file of an archive is unpacked into a temporary file without a name.

    Raises:
        DataError: the file can't be read, or is compressed.
    """
    place = files.locate(name)
    if isinstance(files, FolderFiles):
        shard = Shard(name, place, place, None)
    else:
        # The copy has no name, so nothing stays behind when a process is killed. It vanishes when
        # it is closed.
        copy = tempfile.TemporaryFile()  # noqa: SIM115
        copy.write(files.read(name))
        copy.flush()
        shard = Shard(name, place, f"/proc/self/fd/{copy.fileno()}", copy)
    if first_bytes(shard, 2) == _GZIP:
        raise DataError(
            f"{place}: compressed by gzip, so examples can't be read by position; unpack it with"
            " gunzip"
        )
    return shard


def first_bytes(shard: Shard, count: int) -> bytes:
    """Return the first bytes of a file; raises DataError if it can't be read."""
    try:
        with open(shard.path, "rb") as file:  # noqa: PTH123
            return file.read(count)
    except OSError as error:
        raise DataError(f"{shard.place}: can't be read ({error.strerror})") from None


def splits_by_words(path: str, names: Iterable[str], kind: str) -> dict[str, list[str]]:
    """Return the files of each split, by the words in their paths, or of one split named "all".

    Raises:
        DataError: some files name a split and others don't, or none is for training.
    """
    splits: dict[str, list[str]] = {}
    for name in names:
        words = re.findall("[a-z]+", name.lower())
        found = [split for split in map(split_of, words) if split]
        splits.setdefault(found[-1] if found else "all", []).append(name)
    if len(splits) > 1 and "all" in splits:
        raise DataError(
            f"{path}: the path of {splits['all'][0]} names no split, but the path of another {kind}"
            " does; set data.source.train, validation and test to patterns of the files' names"
        )
    check_folder_splits(path, {split: listed[0] for split, listed in splits.items()})
    return splits


def _by_pattern(files: Files, config: RecordFiles) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    owner: dict[str, str] = {}
    for split, pattern in config.patterns.items():
        splits[split] = []
        for each in expand_braces(pattern):
            fitting = [name for name in files.names() if _fits(name, each)]
            if not fitting:
                raise DataError(
                    f"data.source.{split}: no file {each} in {files.path};"
                    f" {suggest(each, files.names(), most=5)}"
                )
            for name in fitting:
                if owner.setdefault(name, split) != split:
                    raise DataError(
                        f"data.source.{split}: {name} also fits data.source.{owner[name]}; choose"
                        " patterns that don't overlap"
                    )
                if name not in splits[split]:
                    splits[split].append(name)
    return splits


def _fits(name: str, pattern: str) -> bool:
    """Return True if each part of a path fits the same part of a pattern."""
    parts, wanted = name.split("/"), posixpath.normpath(pattern).split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def expand_braces(pattern: str) -> list[str]:
    """Return the patterns that {a,b} and {000..099} in a pattern mean, in order.

    Raises:
        DataError: there are more than a million patterns.
    """
    patterns = [""]
    for text in _pieces(pattern):
        patterns = [begin + end for begin in patterns for end in text]
        if len(patterns) > _MOST_FILES:
            raise DataError(
                f"'{pattern}' means more than {_MOST_FILES:,} files; correct the pattern"
            )
    return patterns


def _pieces(pattern: str) -> Iterator[Sequence[str]]:
    """Yield the choices for each piece of a pattern."""
    for piece in re.split(r"(\{[^{}]*\})", pattern):
        body = piece[1:-1]
        limits = re.fullmatch(r"(\d+)\.\.(\d+)", body) if piece.startswith("{") else None
        if limits:
            first, last = int(limits[1]), int(limits[2])
            if abs(last - first) >= _MOST_FILES:
                raise DataError(
                    f"'{pattern}' means more than {_MOST_FILES:,} files; correct the pattern"
                )
            step = 1 if first <= last else -1
            width = max(map(len, limits.groups())) if "0" in (limits[1][0], limits[2][0]) else 0
            yield [str(number).zfill(width) for number in range(first, last + step, step)]
        elif piece.startswith("{") and "," in body:
            yield body.split(",")
        else:
            yield [piece]
