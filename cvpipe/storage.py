"""One interface to files in a local folder and in a bucket (gs://…).

Buckets are accessed by TensorFlow's file systems, which are imported only when needed.
`cvpipe/ranges.py` reads byte ranges in buckets.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cvpipe.atomic_write import atomic_path, atomic_write
from cvpipe.errors import DataError


def is_bucket(place: str) -> bool:
    """Return True for an address such as gs://bucket/data."""
    return "://" in place


def address(place: str, name: str) -> str:
    """Return the path or the address of the file `name` in a folder or bucket."""
    return f"{place.rstrip('/')}/{name}" if is_bucket(place) else str(Path(place) / name)


def read_file(place: str, name: str) -> bytes:
    """Return a file's content.

    Raises:
        DataError: the file is missing or can't be read.
    """
    file = address(place, name)
    with _data_errors(file, "read"):
        if not is_bucket(place):
            return Path(file).read_bytes()
        with _gfile().GFile(file, "rb") as stream:
            content: bytes = stream.read()
        return content


def read_range(file: str, begin: int, end: int) -> bytes:
    """Return the bytes begin … end − 1 of a file, given its path or address. Thread-safe.

    Raises:
        DataError: the file is missing, too short, or can't be read.
    """
    if is_bucket(file):
        from cvpipe.ranges import read_object

        content = read_object(file, begin, end)
    else:
        with _data_errors(file, "read"), Path(file).open("rb", buffering=0) as opened:
            content = os.pread(opened.fileno(), end - begin, begin)
    if len(content) != end - begin:
        raise DataError(f"{file}: ends before byte {end:,}; restore it")
    return content


def write_file(place: str, name: str, content: bytes) -> None:
    """Write a file atomically.

    Raises:
        DataError: the file can't be written.
    """
    file = address(place, name)
    with _data_errors(file, "written"):
        if not is_bucket(place):
            with atomic_write(Path(file)) as stream:
                stream.write(content)
            return
        # An object appears in the bucket only when it is complete.
        with _gfile().GFile(file, "wb") as stream:
            stream.write(content)


def publish(local: Path, place: str, name: str) -> None:
    """Copy a local file to a folder or bucket atomically.

    Raises:
        DataError: the copy can't be written.
    """
    file = address(place, name)
    with _data_errors(file, "written"):
        if is_bucket(place):
            _gfile().copy(str(local), file, overwrite=True)
            return
        with atomic_path(Path(file)) as partial:
            shutil.copyfile(local, partial)


def delete_file(place: str, name: str) -> None:
    """Remove a file.

    Raises:
        DataError: the file can't be removed.
    """
    file = address(place, name)
    with _data_errors(file, "removed"):
        if is_bucket(place):
            _gfile().remove(file)
        else:
            Path(file).unlink()


def file_names(place: str) -> set[str]:
    """Return the names of the files in a folder or bucket; an empty set if it doesn't exist.

    Raises:
        DataError: the files can't be listed.
    """
    with _data_errors(place, "listed"):
        if not is_bucket(place):
            folder = Path(place)
            return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if not _gfile().isdir(place):
            return set()
        return {name.rstrip("/") for name in _gfile().listdir(place)}


def make_folder(place: str) -> None:
    """Create a local folder and its parents. Does nothing for a bucket, which has no folders."""
    if not is_bucket(place):
        with _data_errors(place, "made"):
            Path(place).mkdir(parents=True, exist_ok=True)


def _gfile() -> Any:
    import tensorflow as tf

    return tf.io.gfile


@contextmanager
def _data_errors(file: str, done: str) -> Iterator[None]:
    """Convert errors of the file system to a DataError that names the file."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{file}: can't be {done} ({error.strerror or error})") from None
    except Exception as error:
        # TensorFlow's errors have an attribute `error_code`. Checking their class would import
        # TensorFlow even for local files.
        if not is_bucket(file) or not hasattr(error, "error_code"):
            raise
        raise DataError(f"{file}: can't be {done} ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]
