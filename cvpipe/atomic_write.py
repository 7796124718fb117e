"""Atomic writing of files and folders: an incomplete file or folder never appears under its final
name.

`atomic_write` and `atomic_path` also flush the file to the disk, so that it survives a power cut.
`atomic_folder` doesn't flush files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_write(file: Path) -> Iterator[BinaryIO]:
    """Open a binary stream to a temporary file that replaces `file` on success."""
    with atomic_path(file) as partial, partial.open("wb") as stream:
        yield stream


@contextlib.contextmanager
def atomic_path(file: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, which is flushed and renamed to `file` on success.

    On an error `file` keeps its old content and the temporary file is removed.
    """
    # The temporary file is hidden. It keeps the extension, because some writers choose the format
    # by the extension.
    partial = file.with_name(f".{file.stem}-partial{file.suffix}")
    try:
        yield partial
        _flush(partial)
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    # The renaming survives a power cut only after the folder is flushed, too.
    _flush(file.parent)


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write to, which is renamed to `folder` when it is complete.

    `folder` must be missing or empty. On an error the temporary folder is removed. If the process
    is killed, the next call for the same folder removes it. Files aren't flushed to the disk,
    because flushing takes longer than writing.
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
    """Flush a folder, with all files and folders below it, to the disk."""
    for path in folder.rglob("*"):
        _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    """Flush a file, or the list of names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
