"""A data set being written: its folder, file names, and what the format can't represent."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from pathlib import Path

from cvpipe.data.annotated import Annotated
from cvpipe.data.facts import Facts
from cvpipe.data.header import FORMATS
from cvpipe.data.sources.folder import EXTENSIONS, is_image
from cvpipe.user_paths import UNFIT, same_form

SPLITS = {"train": "train", "validation": "val", "test": "test"}
"""Names of the splits' folders and files."""
_EXTENSIONS = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "WebP": ".webp"}


class Target:
    """A data set being written to a folder."""

    def __init__(self, folder: Path, facts: Facts, link: bool = False):
        """Begin a data set. `link`: write links to images in folders instead of copies."""
        self.folder, self.facts = folder, facts
        self.lost = Counter[str]()
        """Counts of information that the format can't represent, by a sentence without a period."""
        self.remarks: list[str] = []
        """Sentences about the whole data set."""
        self.images = Counter[str]()
        """Numbers of images by split."""
        self.suffix = ""
        """Ending of the stems of other files beside the images; no image's name ends with it."""
        self._link = link
        self._taken = set[str]()

    def save_image(self, image: Annotated, folder: str) -> str:
        """Write an unchanged image to a folder of the data set; return its path there."""
        path = posixpath.join(folder, self.name_of(image))
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if self._link and image.file:
            file.symlink_to(image.file.resolve())
        else:
            _write_new(file, image.content)
            if self._link:
                self.lose("images that aren't files of a folder, copied instead of linked")
        self.images[image.split] += 1
        return path

    def write(self, path: str, content: str | bytes) -> None:
        """Write a file other than an image."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        _write_new(file, content if isinstance(content, bytes) else content.encode())

    def lose(self, text: str, number: int = 1) -> None:
        """Count information that can't be represented; `text` is a sentence without a period."""
        if number:
            self.lost[text] += number

    def alphabetical(self, found: set[int], where: str, numbers: bool = False) -> None:
        """Add remarks on classes for a format without a list of classes: readers find only the
        classes that occur, in alphabetical order, and ignore blanks around their names.

        Args:
            found: positions of the classes that occur.
            where: the files that contain them, such as "the XML files".
            numbers: True if readers sort names as numbers if all are integers.
        """
        names = self.facts.class_names
        kept = sorted(names[label] for label in found)
        by_number = numbers and all(re.fullmatch("[+-]?[0-9]+", name) for name in kept)
        if by_number:
            kept.sort(key=int)
        missing = [name for name in names if name not in kept]
        if missing:
            self.remarks.append(f"{where} name only classes that occur, not {', '.join(missing)}")
        if kept != [name for name in names if name in kept]:
            self.remarks.append(
                f"{where} have no order of classes: they are read again in"
                f" {'numerical' if by_number else 'alphabetical'} order, {', '.join(kept)}"
            )
        plain = Counter(name.strip() for name in kept)
        if alike := [f"'{name}'" for name in kept if plain[name.strip()] > 1]:
            self.remarks.append(
                f"{where} are read again without blanks around names, which merges these classes:"
                f" {', '.join(alike)}"
            )

    def name_of(self, image: Annotated) -> str:
        """Return a file name for an image that is unique in the data set, even without extension
        and ignoring case.
        """
        # The name includes an archive's path.
        *folders, last = re.split(r"[/\\]", image.name)
        stem, extension = posixpath.splitext(last) if is_image(last) else (last, "")
        if not extension:
            extension = _extension_of(image.content)
        # Names that begin with a dot are hidden.
        stem = UNFIT.sub("-", stem.lstrip(". ")) or "image"
        # Lists contain names without extension, but readers remove an ending that looks like an
        # extension.
        if posixpath.splitext(stem)[1].lower() in EXTENSIONS:
            stem = stem.replace(".", "-")
        if self.suffix and self._key(stem).endswith(self.suffix):
            stem += "-image"
        spelled = stem
        if self._key(spelled) in self._taken and folders:
            spelled = f"{UNFIT.sub('-', folders[-1].rpartition(':')[2])}-{stem}"
        number = 1
        while self._key(spelled) in self._taken:
            number += 1
            spelled = f"{stem}-{number}"
        if spelled != (os.path.splitext(last)[0] if is_image(last) else last):  # noqa: PTH122
            self.lose("images whose names are taken or unfit for a file, renamed")
        self._taken.add(self._key(spelled))
        return spelled + extension

    @staticmethod
    def _key(stem: str) -> str:
        return same_form(stem).casefold()


def _write_new(file: Path, content: bytes) -> None:
    """Write a file that doesn't exist. An existing file may be a link to a user's image."""
    with file.open("xb") as stream:
        stream.write(content)


def _extension_of(content: bytes) -> str:
    for name, beginning in FORMATS.items():
        if content.startswith(beginning):
            return _EXTENSIONS[name]
    return ".jpg"
