"""The folder or archive whose format is detected, and the result of a format's module."""

from __future__ import annotations

import functools
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeVar

from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.folder import is_image, split_of
from cvpipe.data.sources.image_paths import is_elsewhere
from cvpipe.data.statistics import evenly_spaced
from cvpipe.errors import DataError
from cvpipe.text_files import decode_text
from cvpipe.user_paths import same_form

T = TypeVar("T")

# Number of files of a kind that are opened to detect a format.
MOST_OPENED = 200

CLASSIFICATION, DETECTION = "classification", "detection"
SEGMENTATION, POSE, ANOMALY = "segmentation", "pose", "anomaly"

# Stronger evidence wins.
ANNOTATED, PAIRED, NAMED = 3, 2, 1
"""Strength of evidence: annotation files, masks with images' names, folders named like classes."""


class Found(NamedTuple):
    """A format that fits the files, for one task."""

    task: str
    """Task that the files can be used for."""
    source: dict[str, Any]
    """The `data.source` that reads the files."""
    why: str
    """Evidence, as words that follow "because"."""
    strength: int
    """ANNOTATED, PAIRED or NAMED."""
    remarks: tuple[str, ...] = ()
    """Sentences about choices that users may want to change."""


class Place:
    """A folder or zip archive whose format is detected."""

    def __init__(self, path: str, key: str = ""):
        self.path = path
        self.files: Files = open_files(path, key=key)
        self.near: list[str] = []
        """Sentences about formats that nearly fit."""
        self.advice = (
            "Put each image into a folder of its class, or provide annotations in one of the"
            " formats of docs/data.md"
        )
        """Advice if no format fits."""

    @functools.cached_property
    def images(self) -> list[str]:
        """Names of all images, in order."""
        return [name for name in self.files.names() if is_image(name)]

    @functools.cached_property
    def by_stem(self) -> dict[str, list[str]]:
        """Images by the last part of their name, without extension."""
        found: dict[str, list[str]] = {}
        for name in self.images:
            found.setdefault(stem(name), []).append(name)
        return found

    @functools.cached_property
    def by_last(self) -> dict[str, list[str]]:
        """Images by the last part of their name."""
        found: dict[str, list[str]] = {}
        for name in self.images:
            found.setdefault(same_form(posixpath.basename(name)), []).append(name)
        return found

    def ending(self, *suffixes: str) -> list[str]:
        """Return the names of files that end with one of the suffixes, such as ".json"."""
        return [n for n in self.files.names() if PurePosixPath(n).suffix.lower() in suffixes]

    def key(self, name: str) -> str:
        """Return a file's path for `data.source`: relative to the place."""
        return posixpath.normpath(f"{self.files.around}{name}")

    def key_or_nothing(self, name: str) -> str:
        """Return the path of `key`, or "" for the place itself."""
        return "" if (key := self.key(name)) == "." else key

    @property
    def name(self) -> str:
        """The name of the folder or archive, also if its path is "."."""
        return self.files.path.resolve().name

    def text(self, name: str) -> str | None:
        """Return a file's text; None if it isn't text."""
        try:
            return decode_text(self.files.read(name), name)
        except DataError:
            return None

    def prefix_of(self, paths: Sequence[str], wanted: str, beside: str) -> tuple[str, int]:
        """Return the folder that most of the image paths are relative to, and the number of these
        paths.

        Of several equally good folders, the folder for the split `wanted` is chosen, else the
        folder closest to the file `beside`, which contains the paths.
        """
        counts: Counter[str] = Counter()
        for path in paths:
            whole = same_form(posixpath.normpath(path.replace("\\", "/")))
            named = self.by_last.get(posixpath.basename(whole), [])
            if is_elsewhere(path):
                counts.update(_folders_of_ends(whole, named))
                continue
            for name in named:
                form = same_form(name)
                if form == whole or form.endswith(f"/{whole}"):
                    counts[name[: len(name) - len(whole)].rstrip("/")] += 1
        if not counts:
            return "", 0
        home = posixpath.dirname(beside)

        def rank(folder: str) -> tuple[int, bool, int]:
            shared = len(posixpath.commonprefix([folder.split("/"), home.split("/")]))
            return counts[folder], split_in(folder) == wanted, shared

        best = max(sorted(counts), key=rank)
        return best, counts[best]


def _folders_of_ends(path: str, names: Sequence[str]) -> list[str]:
    """Return the folders in which the longest possible end of a path is one of the names."""
    ends = [path[at:] for at, letter in enumerate(path) if letter == "/"]
    for end in ends:
        found = [name for name in names if f"/{same_form(name)}".endswith(end)]
        if found:
            return [name[: len(name) + 1 - len(end)].rstrip("/") for name in found]
    return []


def stem(name: str) -> str:
    """Return the last part of a name without extension, in a normalized form of Unicode."""
    return same_form(posixpath.splitext(posixpath.basename(name))[0])


def some(items: Sequence[T], most: int = MOST_OPENED) -> list[T]:
    """Return at most `most` of the items, evenly spaced."""
    return [items[number] for number in evenly_spaced(len(items), most)]


def split_in(name: str) -> str | None:
    """Return the split named in a path, by the last word that names one; None if no word does."""
    words = re.findall("[a-z]+", name.lower())
    return next((split for split in map(split_of, reversed(words)) if split), None)


def without_split(name: str) -> str:
    """Return the words of a path without split names and numbers.

    They are equal for files that differ only in the split.
    """
    words = re.findall("[a-z]+", name.lower())
    return " ".join(word for word in words if not split_of(word))


def common_folder(names: Iterable[str]) -> str:
    """Return the deepest folder that contains all files; "" for the place itself."""
    folders = [posixpath.dirname(name) for name in names]
    return posixpath.commonpath(folders) if folders and all(folders) else ""


def one_a_split(place: Place, names: Sequence[str], what: str) -> dict[str, str]:
    """Return the file of each split; a single file is "train", regardless of its name.

    Raises:
        DataError: a split has two files, or the training split has none.
    """
    splits: dict[str, str] = {}
    for name in names:
        split = split_in(name) or "train"
        if split in splits:
            raise DataError(
                f"{place.path}: {splits[split]} and {name} are both {what} of the split {split};"
                " move one away, or write data.source by hand (docs/configuration.md)"
            )
        splits[split] = name
    if len(splits) == 1:
        return {"train": next(iter(splits.values()))}
    if "train" not in splits:
        raise DataError(
            f"{place.path}: there are {what} of {' and '.join(splits)}, but none of train; name the"
            " training split's file train"
        )
    return splits
