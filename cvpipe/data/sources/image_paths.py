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

# Label Studio's prefix of uploaded files, and its addresses of files on the server.
_UPLOADED = re.compile("^[0-9a-f]{8}-")
_SERVED = re.compile(r"\?d=|(^|/)upload/[0-9]+/")


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

    Tries the path relative to the folder `images`, as written and without the prefix of an upload;
    then in any folder, with or without extension, if `last` has only one such image.

    Folders are left out only of absolute paths, URLs and Label Studio's addresses. Those of a
    relative path distinguish images of the same file name.
    """
    moved = is_elsewhere(path) or _SERVED.search(path)
    for spelled in dict.fromkeys([path, unquote(path_in(path))]):
        parts = plain_path(spelled).split("/")
        ends = dict.fromkeys([parts[-1], _UPLOADED.sub("", parts[-1])])
        for begin in range(len(parts) if moved else 1):
            for end in ends:
                name = files.find(posixpath.join(images, *parts[begin:-1], end))
                if name:
                    return name
    folders = [] if moved else [part for part in parts[:-1] if part != ".."]
    inside = "/".join(["", *folders, ""])
    for end in ends:
        known = [
            name for name in last.get(end, ()) if f"/{posixpath.dirname(name)}/".endswith(inside)
        ]
        if len(known) == 1:
            return known[0]
    return None


def path_in(address: str) -> str:
    """Return the path in a URL or in an address of Label Studio; a path as it is."""
    path = address.rpartition("?d=")[2] if "?d=" in address else address.partition("?")[0]
    return path.partition("://")[2] or path


def images_by_last(files: Files) -> dict[str, list[str]]:
    """Return images by the last part of their name, with and without extension."""
    found: dict[str, list[str]] = {}
    for name in filter(is_image, files.names()):
        last = posixpath.basename(name)
        for key in (last, posixpath.splitext(last)[0]):
            found.setdefault(key, []).append(name)
    return found
