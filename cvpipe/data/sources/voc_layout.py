"""File layout of a voc source: pairs images with XML files and assigns both to splits.

An image and its XML file have the same path without extension, relative to their folders. This path
is called their key.
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from cvpipe.config.voc import Voc
from cvpipe.data.sources.files import Files, plain_path
from cvpipe.data.sources.folder import EXTENSIONS, by_stem, is_image, split_of
from cvpipe.data.sources.splits import check_folder_splits
from cvpipe.errors import DataError, counted
from cvpipe.text_files import decode_text
from cvpipe.user_paths import same_form

log = logging.getLogger(__name__)

# Possible names of each split's list. Pascal VOC's trainval is used if there is no train.txt.
LISTS = {
    "train": ("train.txt", "trainval.txt"),
    "validation": ("val.txt", "valid.txt", "validation.txt"),
    "test": ("test.txt",),
}


_SHOWN = 3


class Pair(NamedTuple):
    """An XML file and its image."""

    annotations: str
    image: str
    has_image: bool
    """False if the image is missing; `image` is its expected name."""


class _Folders(NamedTuple):
    """Folders of images and annotations, and their files by key."""

    images: str
    annotations: str
    image_of: Mapping[str, str]
    annotations_of: Mapping[str, str]

    def pair(self, key: str) -> Pair:
        annotations = self.annotations_of.get(key)
        image = self.image_of.get(key)
        return Pair(
            annotations or posixpath.join(self.annotations, f"{key}.xml"),
            image or posixpath.join(self.images, f"{key}.jpg"),
            image is not None,
        )


def voc_pairs(files: Files, config: Voc) -> dict[str, list[Pair]]:
    """Return the pairs of each split, or of one split named "all".

    Raises:
        DataError: there is no XML file, a list is empty, the training split has no list, or an XML
            file belongs to no split although there are folders of splits.
    """
    if config.splits:
        return {
            split: _every_pair(
                files, config, _open(files, config, split_folders.images, split_folders.annotations)
            )
            for split, split_folders in config.splits.items()
        }
    folders = _open(files, config, *_main_folders(files, config))
    lists = _lists(files, config)
    if lists:
        return {split: _listed(files, name, folders) for split, name in lists.items()}
    splits: dict[str, list[Pair]] = {}
    for key, pair in zip(folders.annotations_of, _every_pair(files, config, folders), strict=True):
        splits.setdefault(split_of(key.split("/")[0]) or "all", []).append(pair)
    check_folder_splits(
        config.path, {split: pairs[0].annotations for split, pairs in splits.items()}
    )
    return splits


def _main_folders(files: Files, config: Voc) -> tuple[str, str]:
    """Return the folders of images and annotations. Both are the source's root if the pipeline
    names none, Pascal VOC's folders don't exist, and an image is beside an XML file.
    """
    given = config.model_fields_set & {"images", "annotations"}
    known = (_inside(config, config.images), _inside(config, config.annotations))
    if given or any(files.find_folder(folder) is not None for folder in known):
        return config.images, config.annotations
    images = {_without_suffix(name) for name in filter(is_image, files.names())}
    beside = any(_without_suffix(name) in images for name in _xml_files(files))
    return ("", "") if beside else (config.images, config.annotations)


def _inside(config: Voc, path: str) -> str:
    return posixpath.join(config.root, path)


def _without_suffix(name: str) -> str:
    return same_form(str(PurePosixPath(name).with_suffix("")))


def _xml_files(files: Files) -> list[str]:
    return [name for name in files.names() if PurePosixPath(name).suffix.lower() == ".xml"]


def _open(files: Files, config: Voc, images: str, annotations: str) -> _Folders:
    images_in = files.folder(_inside(config, images))
    annotations_in = files.folder(_inside(config, annotations))
    start = f"{annotations_in}/" if annotations_in else ""
    keys = {
        _without_suffix(name[len(start) :]): name
        for name in _xml_files(files)
        if name.startswith(start)
    }
    image_of = by_stem(files.names(), images_in, deep=True)
    return _Folders(images_in, annotations_in, image_of, keys)


def _every_pair(files: Files, config: Voc, folders: _Folders) -> list[Pair]:
    """Return all annotated images; warn of images without annotations."""
    if not folders.annotations_of:
        there = sorted({posixpath.dirname(name) or "." for name in _xml_files(files)})
        raise DataError(
            f"{files.locate(folders.annotations)}: no XML file there; set `root` and `annotations`"
            " in data.source to where the XML files are"
            + (f"; there are XML files in {' and '.join(there[:_SHOWN])}" if there else "")
        )
    others = sorted(folders.image_of.keys() - folders.annotations_of.keys())
    if others:
        log.warning(
            "%s: left out %s without an XML file, such as %s",
            config.path,
            counted(len(others), "image"),
            folders.image_of[others[0]],
        )
    return [folders.pair(key) for key in folders.annotations_of]


def _lists(files: Files, config: Voc) -> dict[str, str]:
    """Return existing lists by split."""
    folder = _inside(config, config.lists)
    found = {
        split: [
            name
            for name in (files.find(posixpath.join(folder, option)) for option in names)
            if name
        ]
        for split, names in LISTS.items()
    }
    present = {split: names[0] for split, names in found.items() if names}
    if present and "train" not in present:
        missing = posixpath.join(files.folder(folder), LISTS["train"][0])
        raise DataError(
            f"{files.locate(missing)}: no such list, although there is"
            f" {' and '.join(present.values())}; add the list, or set data.source.lists to a folder"
            " without lists, so that images are held out"
        )
    return present


def _listed(files: Files, name: str, folders: _Folders) -> list[Pair]:
    place = files.locate(name)
    lines = [line.strip() for line in decode_text(files.read(name), place).splitlines()]
    keys = [_key(line, folders.annotations_of) for line in lines if line]
    if not keys:
        raise DataError(f"{place}: the list is empty; add names of images, or remove the list")
    if again := len(keys) - len(set(keys)):
        log.warning(
            "%s: left out %s of %d that an earlier line names already",
            place,
            counted(again, "image"),
            len(keys),
        )
    return [folders.pair(key) for key in dict.fromkeys(keys)]


def _key(line: str, known: Mapping[str, str]) -> str:
    """Return the key for a line of a list: a path with or without extension, whose first folders
    may differ.
    """
    first, *others = _readings(line)
    for path in (first, *others):
        for key in _ends(path):
            if key in known:
                return key
    return others[0] if line.split()[-1] in ("-1", "0", "1") and others else first


def _readings(line: str) -> Iterator[str]:
    """Yield the readings of a line as a path: the whole line, and the part before its last blank.

    Lines in lists of a single class end in 1, 0 or -1. Lines in some other lists end in the path of
    the XML file.
    """
    yield _without_extension(line)
    if len(line.split()) > 1:
        yield _without_extension(line.rsplit(maxsplit=1)[0])


def _without_extension(text: str) -> str:
    path = PurePosixPath(same_form(plain_path(text)))
    return str(path.with_suffix("") if path.suffix.lower() in {*EXTENSIONS, ".xml"} else path)


def _ends(path: str) -> Iterator[str]:
    """Yield a path, then the path without its first folder, without the first two, and so on."""
    parts = path.split("/")
    for begin in range(len(parts)):
        yield "/".join(parts[begin:])
