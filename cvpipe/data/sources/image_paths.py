"""Lookup of images by the paths in tables and annotation files.

Tools write paths on the machine where the images were labeled.
"""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from cvpipe.data.sources.files import Files, plain_path
from cvpipe.data.sources.folder import is_image

# Label Studio's prefix of uploaded files.
_UPLOADED = re.compile("^[0-9a-f]{8}-")


class ImageFinder:
    """Finds images by paths relative to a folder, and by absolute paths of other machines.

    A relative path is taken as written, so that a missing image isn't replaced by another image of
    its name.
    """

    def __init__(self, files: Files, images: str):
        self._files, self._images = files, images

    def find(self, path: str) -> str | None:
        """Return the name of an image; None if there is none."""
        found = self._files.find(posixpath.join(self._images, path))
        if found is None and is_elsewhere(path):
            return find_image(self._files, path, self._images, self._last)
        return found

    def name(self, path: str) -> str:
        """Return the name of an image, even if it is missing."""
        return self.find(path) or self.written(path)

    def written(self, path: str) -> str:
        """Return the path of an image in the files as it is written."""
        return plain_path(posixpath.join(self._images, path))

    @functools.cached_property
    def _last(self) -> Mapping[str, Sequence[str]]:
        return images_by_last(self._files)


def is_elsewhere(path: str) -> bool:
    """Return True for an absolute path or a URL."""
    plain = plain_path(path)
    return plain.startswith(("/", "~")) or plain[1:3] == ":/" or "://" in path


def find_image(
    files: Files, path: str, images: str, last: Mapping[str, Sequence[str]]
) -> str | None:
    """Return the name of the image that a tool's path refers to; None if there is none.

    Tries the path relative to the folder `images`: as written, without the prefix of an upload, and
    without its first folders. Then tries the file name alone, with or without extension, if `last`
    has only one image of that name.
    """
    address = path.rpartition("?d=")[2] if "?d=" in path else path.partition("?")[0]
    for spelled in dict.fromkeys([path, unquote(address.partition("://")[2] or address)]):
        parts = plain_path(spelled).split("/")
        ends = dict.fromkeys([parts[-1], _UPLOADED.sub("", parts[-1])])
        for begin in range(len(parts)):
            for end in ends:
                name = files.find(posixpath.join(images, *parts[begin:-1], end))
                if name:
                    return name
    # The file name alone, in any folder, if it is unique.
    for end in ends:
        if len(known := last.get(end, ())) == 1:
            return known[0]
    return None


def images_by_last(files: Files) -> dict[str, list[str]]:
    """Return images by the last part of their name, with and without extension."""
    found: dict[str, list[str]] = {}
    for name in filter(is_image, files.names()):
        last = posixpath.basename(name)
        for key in (last, posixpath.splitext(last)[0]):
            found.setdefault(key, []).append(name)
    return found
