"""Access to the files of a folder or a zip archive: listing, lookup of users' paths, reading."""

from __future__ import annotations

import abc
import functools
import os
import posixpath
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow as tf

from cvpipe.data.example import Reader
from cvpipe.data.graph import in_memory, read_in_python
from cvpipe.data.header import MAX_BYTES, TOO_LONG
from cvpipe.data.public_sets import how_to_fetch
from cvpipe.data.sources.listing import Listing, list_entries, list_folder
from cvpipe.data.sources.zip_entries import entry_name, is_folder, unpack
from cvpipe.errors import DataError, suggest
from cvpipe.user_paths import find_path, nearly, same_form, spellings


class Files(abc.ABC):
    """Files of a folder or archive. A name is a path below it, with / between its parts."""

    def __init__(self, path: Path):
        self.path = path

    @functools.cached_property
    def listing(self) -> Listing:
        """All files and folders, without hidden ones and leftovers of tools."""
        return self._list()

    def names(self) -> list[str]:
        """Return all files, sorted."""
        return self.listing.files

    @property
    def around(self) -> str:
        """Top folder of an archive that is left out of the names, with a trailing /; "" if there is
        none.
        """
        return ""

    def find(self, path: str) -> str | None:
        """Return the name of the file for a user's path; None if there is none.

        Tries the path as written, then with / for backslashes, with ~ and $NAME expanded, and in
        another form of Unicode.
        """
        for spelled in spellings(path):
            name = posixpath.normpath(spelled)
            if self._holds(name):
                return name
        # ASCII text has only one form in Unicode.
        return None if path.isascii() else self._by_form.get(same_form(plain_path(path)))

    def find_folder(self, path: str) -> str | None:
        """Return the name of the folder for a user's path; None if there is none.

        "" and "." are the folder or archive itself.
        """
        folders = self.listing.folders
        for spelled in spellings(path):
            name = self._unaliased(plain_path(spelled))
            if name in folders:
                return name
        form = same_form(plain_path(path))
        return next((name for name in folders if same_form(name) == form), None)

    def folder(self, path: str) -> str:
        """Return the name of the folder for a user's path; the path itself if there is none."""
        found = self.find_folder(path)
        return plain_path(path) if found is None else found

    @abc.abstractmethod
    def locate(self, name: str) -> str:
        """Return the path of a file for messages."""

    @abc.abstractmethod
    def read(self, path: str) -> bytes:
        """Return a file's content; raises DataError if there is none or it is damaged."""

    @abc.abstractmethod
    def reader(self, names: Sequence[str]) -> Reader:
        """Return a function for graphs that maps an index into `names`, int64 scalar, to an example
        with the file's "bytes".
        """

    @abc.abstractmethod
    def _list(self) -> Listing: ...

    @abc.abstractmethod
    def _holds(self, name: str) -> bool: ...

    @functools.cached_property
    def _by_form(self) -> dict[str, str]:
        return {same_form(name): name for name in reversed(self.names())}

    def _unaliased(self, folder: str) -> str:
        """Return the name under which the files of a folder are listed."""
        for alias, name in self.listing.aliases.items():
            if f"{folder}/".startswith(f"{alias}/"):
                return posixpath.join(name, folder[len(alias) + 1 :]).rstrip("/")
        return folder

    def no_such_file(self, path: str) -> DataError:
        """Return the error for a missing file; it suggests similar paths."""
        # Suggest only files with the same extension, for example tables if a table is missing.
        suffix, last = PurePosixPath(path).suffix.lower(), plain_path(path).split("/")[-1].lower()
        alike = [name for name in self.names() if PurePosixPath(name).suffix.lower() == suffix]
        same_last = [name for name in alike if name.split("/")[-1].lower() == last]
        return DataError(
            f"{self.locate(path)}: no such file; "
            + (
                suggest(path, same_last or alike)
                if alike
                else f"{self.path} has no file that ends with '{suffix or last}'"
            )
        )


class FolderFiles(Files):
    """The files of a folder; a name may also be an absolute path, or lead out of it."""

    def locate(self, name: str) -> str:
        """Return the path of a file."""
        # Called for every record; os.path.join is several times as fast as Path.
        return os.path.join(self.path, name) if name else str(self.path)  # noqa: PTH118

    def read(self, path: str) -> bytes:
        """Return a file's content; raises DataError if there is none."""
        name = self.find(path)
        if name is None:
            raise self.no_such_file(path)
        try:
            return Path(self.path, name).read_bytes()
        except OSError as error:
            raise DataError(f"{self.locate(name)}: can't be read: {error.strerror}") from None

    def reader(self, names: Sequence[str]) -> Reader:
        """Return the function described by `Files.reader`."""
        # File names may contain arbitrary bytes.
        paths = in_memory([os.fsencode(self.locate(name)) for name in names])
        return lambda record: {"bytes": tf.io.read_file(tf.gather(paths, record))}

    def _list(self) -> Listing:
        return list_folder(self.path)

    def _holds(self, name: str) -> bool:
        return os.path.isfile(self.locate(name))  # noqa: PTH113


class ZipFiles(Files):
    """The files of a zip archive.

    A folder that contains all files isn't part of their names, unless one of the configuration's
    paths, `inside`, begins with that folder.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, inside: Sequence[str] = ()):
        super().__init__(path)
        entries = {entry_name(entry): entry for entry in archive.infolist()}
        everything = list_entries(
            path,
            [name for name, entry in entries.items() if name and not is_folder(entry)],
            [name for name, entry in entries.items() if is_folder(entry)],
        )
        self._around = _folder_around(everything, inside)
        skip = len(self._around)
        self._entries = {name[skip:]: entries[name] for name in everything.files}
        below = [name[skip:] for name in everything.folders if len(name) > skip]
        self._folders = frozenset(["", *below])

    @property
    def around(self) -> str:
        """Top folder of an archive that is left out of the names, with a trailing /; "" if there is
        none.
        """
        return self._around

    def find(self, path: str) -> str | None:
        """Return the name of the file for a user's path; None if there is none."""
        return super().find(path) or super().find(plain_path(path).removeprefix(self._around))

    def find_folder(self, path: str) -> str | None:
        """Return the name of the folder for a user's path; None if there is none."""
        found = super().find_folder(path)
        if found is None and self._around:
            found = super().find_folder(f"{plain_path(path)}/".removeprefix(self._around))
        return found

    def locate(self, name: str) -> str:
        """Return the path of a file for messages."""
        return f"{self.path}:{self._around}{name}" if name else str(self.path)

    def read(self, path: str) -> bytes:
        """Return a file's content; raises DataError if there is none or it is damaged."""
        name = self.find(path)
        if name is None:
            raise self.no_such_file(path)
        try:
            return unpack(str(self.path), *self._place(name))
        except DataError as error:
            raise DataError(
                f"{self.locate(name)}: {error}; download or create the archive again"
            ) from None

    def reader(self, names: Sequence[str]) -> Reader:
        """Return the function described by `Files.reader`."""
        # zipfile isn't used, because threads that use it wait for each other. Five numbers per file
        # take little memory.
        places, path = np.array([self._place(name) for name in names], np.int64), str(self.path)

        def read(record: int) -> bytes:
            at, packed, size, *rest = places[record].tolist()
            # Checked before unpacking, because a file of a small archive may exceed the memory
            # after unpacking.
            if size > MAX_BYTES:
                raise DataError(TOO_LONG)
            return unpack(path, at, packed, size, *rest)

        return lambda record: {"bytes": read_in_python(read, record)}

    def _list(self) -> Listing:
        return Listing(sorted(self._entries), self._folders, {})

    def _holds(self, name: str) -> bool:
        return name in self._entries

    def _place(self, name: str) -> tuple[int, int, int, int, int]:
        """Return a file's offset in the archive, its packed and unpacked size in bytes, its
        compression method (-1: encrypted) and its checksum; an offset of -1 if there is no such
        file.
        """
        entry = self._entries.get(name)
        if entry is None:
            return -1, 0, 0, 0, 0
        method = -1 if entry.flag_bits & 1 else entry.compress_type
        return entry.header_offset, entry.compress_size, entry.file_size, method, entry.CRC


def open_files(path: str, inside: Sequence[str] = (), key: str = "data.source.path") -> Files:
    """Open a folder or a zip archive.

    If the folder doesn't exist, the archive of that name is opened: data/bccd.zip for data/bccd.

    Args:
        path: path of the folder or archive.
        inside: the paths below it that occur in the configuration.
        key: the key that has the path, for errors; "" for a word of a command line.

    Raises:
        DataError: the path is neither a folder nor a readable zip archive.
    """
    place = find_path(path)
    if not place.exists():
        place = find_path(f"{path}.zip")
    if place.is_dir():
        return FolderFiles(place)
    try:
        with zipfile.ZipFile(place) as archive:
            return ZipFiles(place, archive, inside)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{path}: no such folder or zip archive; {how_to_fetch(path) or nearly(path)}"
            + (f"set {key} to where the files are" if key else "give the path of the files")
        ) from None
    # zipfile raises these for archives that are damaged or of another version or encoding.
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        raise DataError(
            f"{path}: neither a folder nor a readable zip archive; correct {key or 'the path'}, or"
            " fetch the archive again"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from None


def plain_path(path: str) -> str:
    """Return a normalized path with / between its parts; "" for the folder itself."""
    plain = posixpath.normpath(path.replace("\\", "/"))
    return "" if plain == "." else plain


def _folder_around(listing: Listing, inside: Sequence[str]) -> str:
    """Return the folder that contains all files, with a trailing /; "" if there is none, or if a
    path in the configuration begins with it.
    """
    tops = {name.split("/")[0] for name in (*listing.files, *listing.folders) if name}
    if len(tops) != 1 or listing.files[:1] == list(tops):
        return ""
    [top] = tops
    named = {same_form(plain_path(path).split("/")[0]) for path in inside}
    return "" if same_form(top) in named else f"{top}/"
