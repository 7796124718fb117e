"""Images on a command line: files, folders, zip archives, patterns, and lists on stdin."""

from __future__ import annotations

import glob
import logging
import mimetypes
import os
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from cvpipe.errors import DataError, counted

log = logging.getLogger(__name__)
SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp"))
"""Extensions of images in folders and archives, in lower case."""
# First bytes of a zip archive.
_ZIP = b"PK\x03\x04"


class ImageFile(NamedTuple):
    """An image to predict."""

    name: str
    """Path of the image, as it appears in the answer."""
    output: str
    """Unique name from which the names of the image's output files are formed."""
    read: Callable[[], bytes]
    """Returns the content of the file; raises OSError or DataError."""
    file: Path
    """The file, or the archive that contains it."""


def find_images(words: Sequence[str], written: Sequence[tuple[Path, str]] = ()) -> list[ImageFile]:
    """Find the images on a command line, in the order of the words.

    Args:
        words: each is a file; a folder or zip archive, for all images in it and in its subfolders,
            sorted by name; a pattern such as photos/*.jpg; or "-", for one word per line of stdin.
        written: folders to which the command writes images, and the ends of their names. These
            images in folders and patterns are left out, so that the command can be resumed.

    Raises:
        DataError: a folder, an archive or a pattern has no image, or an archive is damaged.
    """

    @cache
    def endings(folder: str) -> tuple[str, ...]:
        real = Path(folder).resolve()
        return tuple(end for place, end in written if real.is_relative_to(place.resolve()))

    def is_written(file: str) -> bool:
        # Called for every image; os.path.dirname is several times as fast as Path.
        return file.endswith(endings(os.path.dirname(file)))  # noqa: PTH120

    found = [each for word in words for each in _found(word, is_written)]
    times: Counter[str] = Counter()
    images = []
    for name, read, file in found:
        last = name.rpartition("/")[2]
        times[last] += 1
        output = f"{last}.{times[last]}" if times[last] > 1 else last
        images.append(ImageFile(name, output, read, file))
    return images


def _found(
    word: str, is_written: Callable[[str], bool]
) -> Iterator[tuple[str, Callable[[], bytes], Path]]:
    path = Path(word)
    if word == "-":
        for line in sys.stdin:
            if line.strip():
                yield from _found(line.rstrip("\r\n"), is_written)
    elif path.is_dir() or zipfile.is_zipfile(path):
        yield from _inside(word, is_written)
    elif _begins_as_zip(path):
        raise DataError(f"{word}: a damaged or cut off zip archive; fetch or create it again")
    elif not path.exists() and glob.has_magic(word):
        # Path.glob doesn't support absolute patterns.
        names = glob.glob(word, recursive=True)  # noqa: PTH207
        matches = [name for name in sorted(names) if Path(name).is_file() and not is_written(name)]
        if not matches:
            raise DataError(f"{word}: no file matches the pattern")
        for match in matches:
            yield match, Path(match).read_bytes, Path(match)
    else:
        yield word, path.read_bytes, path


def _begins_as_zip(path: Path) -> bool:
    """Return True for a file that is named or begins like a zip archive."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return path.suffix.lower() == ".zip" or file.read(len(_ZIP)) == _ZIP


def _inside(
    place: str, is_written: Callable[[str], bool]
) -> Iterator[tuple[str, Callable[[], bytes], Path]]:
    from cvpipe.data.sources.files import open_files

    files = open_files(place, key="")
    is_folder = Path(place).is_dir()
    names = [
        name
        for name in files.names()
        if Path(name).suffix.lower() in SUFFIXES
        and not (is_folder and is_written(files.locate(name)))
    ]
    if not names:
        raise DataError(f"{place}: has no image; names of images end in .jpg, .png, .bmp or .webp")
    unread = [name for name in files.names() if _is_unread(name)]
    if unread:
        log.warning(
            "%s: %s skipped, such as %s; images are JPEG, PNG, BMP or WebP",
            *(place, counted(len(unread), "image"), unread[0]),
        )
    for name in names:
        located = files.locate(name)
        yield located, partial(files.read, name), Path(located if is_folder else place)


def _is_unread(name: str) -> bool:
    """Return True if a file's name is that of an image of another format, such as GIF."""
    kind, _ = mimetypes.guess_type(name)
    is_image = kind is not None and kind.startswith("image/")
    return is_image and Path(name).suffix.lower() not in SUFFIXES
