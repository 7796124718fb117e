"""Files that are complete or missing, even after a power cut; folders, after a killed process."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_write(file: Path) -> Iterator[BinaryIO]:
    """Open a stream to what takes the place of `file` once it is whole; see `atomic_path`."""
    with atomic_path(file) as partial, partial.open("wb") as stream:
        yield stream


@contextlib.contextmanager
def atomic_path(file: Path) -> Iterator[Path]:
    """Yield a path to write to, which takes the place of `file` once it is whole and on the disk.

    On an error `file` keeps its old content, and nothing else is left behind.
    """
    # Hidden, and with the same ending, by which some writers choose a format.
    partial = file.with_name(f".{file.stem}-partial{file.suffix}")
    try:
        yield partial
        _flush(partial)
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    # A renamed file is safe once the folder's names are on the disk.
    _flush(file.parent)


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write to, which is renamed to `folder` when it is complete.

    `folder` must not exist, or be empty. On an error nothing is left behind; leftovers of a killed
    process are removed by the next one. Files aren't flushed to the disk, which would take longer
    than writing them.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}-partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def flush_tree(folder: Path) -> None:
    """Wait until all files below a folder, and their names, are on the disk."""
    for path in folder.rglob("*"):
        _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
