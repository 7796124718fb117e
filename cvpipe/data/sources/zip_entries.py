"""Entries of zip archives: decoding of names, and thread-safe reading of contents."""

from __future__ import annotations

import contextlib
import os
import posixpath
import zipfile
import zlib
from pathlib import Path

from cvpipe.errors import DataError

# Bit of an entry's flags: its name is UTF-8 (APPNOTE.TXT, section 4.4.4).
_UTF8 = 0x800


def entry_name(entry: zipfile.ZipInfo) -> str:
    """Return an entry's name, with / between its parts and no / around them.

    UTF-8 is decoded even without its flag, and backslashes are replaced by /.
    """
    name = entry.filename
    if not entry.flag_bits & _UTF8:
        # zipfile decoded the bytes as code page 437, in which every byte is a character.
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    plain = posixpath.normpath(name.replace("\\", "/")).strip("/")
    return "" if plain == "." else plain


def is_folder(entry: zipfile.ZipInfo) -> bool:
    """Return True if an entry is a folder."""
    return entry.filename.endswith(("/", "\\"))


def read_at(file: str, offset: int, length: int) -> bytes:
    """Return bytes from the middle of a file. Thread-safe. Raises DataError if the file can't be
    read or is too short.
    """
    try:
        with Path(file).open("rb", buffering=0) as opened:
            content = os.pread(opened.fileno(), length, offset)
    except OSError as error:
        raise DataError(f"{file} can't be read ({error.strerror})") from None
    if len(content) < length:
        raise DataError(f"{file} is cut off")
    return content


def unpack(archive: str, at: int, packed: int, size: int, method: int, checksum: int) -> bytes:
    """Return the content of an entry that begins at a byte of the archive.

    Args:
        archive: path of the archive.
        at: the entry's first byte; negative if there is no such entry.
        packed, size: its number of bytes in the archive, and after unpacking.
        method: zipfile's number of the compression method; -1 if the entry is encrypted.
        checksum: CRC-32 of the unpacked bytes.

    Raises:
        DataError: the entry is missing, damaged, encrypted, or compressed by an unusual method.
    """
    if at < 0:
        raise DataError("the file is missing")
    if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(
            "it can't be unpacked (encrypted, or compressed by a method other than deflate)"
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
