"""Atomic writing of files and folders: an incomplete file or folder never appears under its final
name.

`atomic_write` and `atomic_path` also flush the file to the disk, so that it survives a power cut.
`atomic_folder` doesn't flush files. Processes that write the same file or folder at once don't
share a temporary one, so none of them damages what another writes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cvpipe.errors import DataError


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
    with temporary_path(file.parent, f".{file.stem}-partial-", file.suffix) as partial:
        yield partial
        _flush(partial)
        partial.replace(file)
    # The renaming survives a power cut only after the folder is flushed, too.
    _flush(file.parent)


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write to, which is renamed to `folder` when it is complete.

    `folder` must be missing or empty. On an error the temporary folder is removed. If the process
    is killed, the next call for the same folder removes it. Files aren't flushed to the disk,
    because flushing takes longer than writing.

    Raises:
        DataError: another process has written to `folder` in the meantime.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_path(folder.parent, f".{folder.name}-partial-") as partial:
        partial.mkdir()
        yield partial
        try:
            partial.replace(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise DataError(
                f"{folder}: another process has written to this folder in the meantime, so nothing"
                " was written; choose another folder, or keep what is there"
            ) from None


@contextlib.contextmanager
def temporary_path(folder: Path, begin: str, end: str = "") -> Iterator[Path]:
    """Yield a path in `folder` that no other process uses, for a temporary file or folder.

    Whatever is at the path at the end is removed. If the process is killed, the next call with the
    same arguments on this machine removes it.

    Args:
        folder: an existing folder.
        begin: first characters of the name. The machine's name and the process id follow.
        end: last characters of the name.
    """
    begin = f"{begin}{socket.gethostname()}-"
    with contextlib.suppress(OSError):
        for left in folder.iterdir():
            number = left.name.removeprefix(begin).removesuffix(end)
            is_ours = left.name == f"{begin}{number}{end}" and number.isdecimal()
            if is_ours and not _is_running_elsewhere(int(number)):
                _remove(left)
    own = folder / f"{begin}{os.getpid()}{end}"
    try:
        yield own
    finally:
        _remove(own)


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


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it exists and can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _is_running_elsewhere(process: int) -> bool:
    """Return True for the id of another process that runs on this machine."""
    # A killed process may have had the id that this process has now.
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # a process of another user
    return True
