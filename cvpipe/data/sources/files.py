"""Files by name, alike in a folder and in a zip archive: listed, read whole, or read by number in a
graph.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from cvpipe.data.decode import MAX_BYTES, TOO_LONG
from cvpipe.data.example import Reader
from cvpipe.data.graph import in_memory, read_in_python
from cvpipe.errors import DataError, suggest


class FolderFiles:
    """The files of a folder; a name is a path in it, or an absolute one."""

    def __init__(self, path: Path):
        self.path = path

    def names(self) -> list[str]:
        """All files, in order."""
        return sorted(
            file.relative_to(self.path).as_posix()
            for file in self.path.rglob("*")
            if file.is_file()
        )

    def locate(self, name: str) -> str:
        """What a person would look for."""
        # Sources ask for every record; os.path.join is several times as fast as Path.
        return os.path.join(self.path, name)  # noqa: PTH118

    def read(self, name: str) -> bytes:
        """A file's content; raises DataError where there is none."""
        try:
            return Path(self.path, name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise _no_such_file(self, name) from None
        except OSError as error:
            raise DataError(f"{self.locate(name)}: can't be read: {error.strerror}") from None

    def reader(self, names: Sequence[str]) -> Reader:
        """Graph code: a number (int64 scalar) to the "bytes" of the file with the name of that
        number.
        """
        # An operating system's names may be of any bytes.
        paths = in_memory([os.fsencode(self.locate(name)) for name in names])
        return lambda record: {"bytes": tf.io.read_file(tf.gather(paths, record))}


class ZipFiles:
    """The files of a zip archive."""

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        self.path = path
        self._entries = {
            entry.filename: entry for entry in archive.infolist() if not entry.is_dir()
        }

    def names(self) -> list[str]:
        """All files, in order."""
        return sorted(self._entries)

    def locate(self, name: str) -> str:
        """What a person would look for."""
        return f"{self.path}:{name}"

    def read(self, name: str) -> bytes:
        """A file's content; raises DataError where there is none or it is damaged."""
        if name not in self._entries:
            raise _no_such_file(self, name)
        try:
            return _unpacked(str(self.path), *self._place(name))
        except DataError as error:
            raise DataError(f"{self.locate(name)}: {error}; fetch it again") from None

    def reader(self, names: Sequence[str]) -> Reader:
        """Graph code: a number (int64 scalar) to the "bytes" of the file with the name of that
        number.
        """
        # Not zipfile's own reading, in which threads wait for each other; and five numbers a file
        # take little memory.
        places, path = np.array([self._place(name) for name in names], np.int64), str(self.path)

        def read(record: int) -> bytes:
            at, packed, size, *rest = places[record].tolist()
            # Known before it is unpacked: a small archive can hold a file that fills the memory.
            if size > MAX_BYTES:
                raise DataError(TOO_LONG)
            return _unpacked(path, at, packed, size, *rest)

        return lambda record: {"bytes": read_in_python(read, record)}

    def _place(self, name: str) -> tuple[int, int, int, int, int]:
        """Where a file begins, its bytes packed and unpacked, its method of packing (-1: encrypted)
        and its checksum.
        """
        entry = self._entries.get(name)
        if entry is None:
            return -1, 0, 0, 0, 0
        method = -1 if entry.flag_bits & 1 else entry.compress_type
        return entry.header_offset, entry.compress_size, entry.file_size, method, entry.CRC


Files = FolderFiles | ZipFiles


def open_files(path: str) -> Files:
    """A folder or a zip archive.

    Raises:
        DataError: it is neither.
    """
    place = Path(path)
    if place.is_dir():
        return FolderFiles(place)
    try:
        with zipfile.ZipFile(place) as archive:
            return ZipFiles(place, archive)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{path}: no such folder or zip archive; set data.source.path to where the files are"
        ) from None
    except zipfile.BadZipFile:
        raise DataError(
            f"{path}: neither a folder nor a zip archive; set data.source.path to one of them"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from None


def read_at(file: str, offset: int, length: int) -> bytes:
    """Bytes from the middle of a file, from any thread; raises DataError where it can't be read or
    ends before.
    """
    try:
        with Path(file).open("rb", buffering=0) as opened:
            content = os.pread(opened.fileno(), length, offset)
    except OSError as error:
        raise DataError(f"{file} can't be read ({error.strerror})") from None
    if len(content) < length:
        raise DataError(f"{file} is cut off")
    return content


def _unpacked(archive: str, at: int, packed: int, size: int, method: int, checksum: int) -> bytes:
    if at < 0:
        raise DataError("the file is missing")
    if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(
            "it can't be unpacked (encrypted, or packed by another method than deflate)"
        )
    # A local header of 30 bytes, which ends with the lengths of two fields that follow it
    # (APPNOTE.TXT, section 4.3.7).
    header = read_at(archive, at, 30)
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    content = read_at(archive, at + 30 + lengths, packed)
    try:
        content = (
            zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1)
            if method == zipfile.ZIP_DEFLATED
            else content
        )
    except zlib.error:
        content = b""
    if len(content) != size or zlib.crc32(content) != checksum:
        raise DataError("it can't be unpacked (the archive is damaged)")
    return content


def _no_such_file(files: Files, name: str) -> DataError:
    # Among images nobody finds a table.
    alike = [other for other in files.names() if Path(other).suffix == Path(name).suffix]
    return DataError(
        f"{files.locate(name)}: no such file; "
        + (suggest(name, alike) if alike else f"nothing in {files.path} ends like it")
    )
