"""File layout of a yolo source: the images of each split and their text files.

Splits come from data.yaml, else from folder names.
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from cvpipe.config.yolo import Yolo
from cvpipe.data.sources.files import Files, plain_path
from cvpipe.data.sources.folder import is_image, split_of
from cvpipe.data.sources.image_paths import ImageFinder
from cvpipe.data.sources.splits import check_folder_splits
from cvpipe.errors import DataError, counted
from cvpipe.text_files import decode_text

log = logging.getLogger(__name__)

# Split → its keys in data.yaml.
KEYS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
# Values that mean "no such split".
_NOTHING = ("", "~", "null", "Null", "NULL")


def split_images(files: Files, config: Yolo, data: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the images of each split, or of one split named "all".

    Raises:
        DataError: there is no image, a split in data.yaml doesn't exist or is empty, the training
            split is missing, or an image belongs to no split although there are splits.
    """
    by_folders: dict[str, list[str]] = {}
    for image in _images(files, config):
        by_folders.setdefault(_split_by_folders(image), []).append(image)
    any_image = any(map(is_image, files.names()))
    given = _given_splits(files, config, data, by_folders.keys()) if any_image else {}
    used = {image for images in given.values() for image in images}
    splits = {
        split: left
        for split, images in by_folders.items()
        if (left := [image for image in images if image not in used])
    }
    if not given and not splits:
        raise DataError(
            f"{config.path}: no image in a folder named '{config.images}'; set data.source.images"
            " to the name of the folder"
        )
    if not given:
        check_folder_splits(config.path, {split: images[0] for split, images in splits.items()})
        return splits
    unused = [image for split in ("all", *given) for image in splits.pop(split, [])]
    if unused:
        log.warning(
            "%s: left out %s outside the splits of %s, such as %s",
            config.path,
            counted(len(unused), "image"),
            config.names,
            unused[0],
        )
    return {**given, **splits}


def text_file_of(files: Files, image: str, config: Yolo) -> str:
    """Return the name of an image's text file: in the folder of labels, or beside the image; in the
    folder of labels if neither exists.
    """
    beside = str(PurePosixPath(image).with_suffix(".txt"))
    parts = beside.split("/")
    if config.images not in parts[:-1]:
        return files.find(beside) or beside
    parts[len(parts) - 1 - parts[::-1].index(config.images)] = config.labels
    apart = "/".join(parts)
    return files.find(apart) or files.find(beside) or apart


def _images(files: Files, config: Yolo) -> list[str]:
    """Return the images in folders named `config.images`. If there are none, return images beside
    text files.
    """
    every = [name for name in files.names() if is_image(name)]
    images = [name for name in every if config.images in name.split("/")[:-1]]
    if not images:
        texts = {posixpath.dirname(name) for name in files.names() if name.endswith(".txt")}
        images = [name for name in every if posixpath.dirname(name) in texts]
    return images


def _split_by_folders(name: str) -> str:
    """Return the split of the innermost folder with a split's name; "all" if there is none."""
    folders = name.split("/")[:-1]
    return next((split for split in map(split_of, reversed(folders)) if split), "all")


def _given_splits(
    files: Files, config: Yolo, data: Mapping[str, Any], by_folders: Collection[str]
) -> dict[str, list[str]]:
    """Return the images of the splits in data.yaml; an empty dict if none of the paths in data.yaml
    exists and folder names give the same splits.
    """
    place = files.locate(config.names)
    key_of = {
        split: key
        for split, keys in KEYS.items()
        for key in keys
        if _paths(place, key, data.get(key, ""))
    }
    entries = {split: _paths(place, key, data[key]) for split, key in key_of.items()}
    if not entries:
        return _splits_of_lists(files, config, data)
    found = {
        split: [(path, _entry(files, config, data, path)) for path in paths]
        for split, paths in entries.items()
    }
    lost = [
        (split, path) for split, pairs in found.items() for path, images in pairs if images is None
    ]
    all_lost = all(images is None for pairs in found.values() for _, images in pairs)
    if all_lost and set(by_folders) >= entries.keys():
        log.warning(
            "%s: none of its paths exists, such as '%s'; splits are taken from the folders' names",
            place,
            lost[0][1],
        )
        return {}
    if lost:
        split, path = lost[0]
        raise DataError(
            f"{place}: {key_of[split]} is '{path}', which doesn't exist; {_path_advice(split)}"
        )
    if found and "train" not in found:
        raise DataError(
            f"{place}: the key train is missing beside {' and '.join(key_of.values())}; add it"
        )
    splits = {
        split: list(dict.fromkeys(image for _, images in pairs for image in images or ()))
        for split, pairs in found.items()
    }
    for split, images in splits.items():
        if not images:
            raise DataError(
                f"{place}: {key_of[split]} is '{entries[split][0]}', which contains no image;"
                f" {_path_advice(split)}"
            )
    return splits


def _path_advice(split: str) -> str:
    """Return advice for a missing split; the training split is required."""
    held_out = ", or remove the key to have training images held out"
    return f"correct the path{'' if split == 'train' else held_out}"


def _splits_of_lists(files: Files, config: Yolo, data: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the images of darknet's lists, such as train.txt. Return {} unless each list names an
    existing image, because other text files may have the same names.
    """
    bases = _bases(config, data)
    lists = {
        split: name
        for split, keys in KEYS.items()
        for key in keys
        if (name := files.find(posixpath.join(bases[0], f"{key}.txt")))
    }
    splits = {split: _listed_images(files, name, bases) for split, name in lists.items()}
    return splits if all(splits.values()) and "train" in splits else {}


def _paths(place: str, key: str, value: Any) -> list[str]:
    """Return a path or a list of paths as a list."""
    paths = value if isinstance(value, list) else [value]
    if not all(isinstance(path, str) for path in paths):
        raise DataError(f"{place}: {key} must be a path or a list of paths; correct it")
    return [path for path in paths if path not in _NOTHING]


def _entry(files: Files, config: Yolo, data: Mapping[str, Any], path: str) -> list[str] | None:
    """Return the images in a folder or a list; None if neither exists."""
    bases = _bases(config, data)
    for candidate in _candidates(path, bases, anywhere=False):
        folder = files.find_folder(candidate)
        if folder is not None:
            start = f"{folder}/" if folder else ""
            return [name for name in files.names() if name.startswith(start) and is_image(name)]
        name = files.find(candidate)
        if name is not None:
            return _listed_images(files, name, bases)
    return None


def _bases(config: Yolo, data: Mapping[str, Any]) -> list[str]:
    """Return the folders that data.yaml's paths may be relative to."""
    folder, root = posixpath.dirname(plain_path(config.names)), data.get("path", "")
    root = root if isinstance(root, str) and root not in _NOTHING else ""
    return list(dict.fromkeys([posixpath.join(folder, root), root, folder, ""]))


def _candidates(path: str, bases: Sequence[str], anywhere: bool) -> Iterator[str]:
    """Yield candidate locations for a path in a data set's files.

    Tools write paths relative to another folder, or absolute paths of another machine. Leading ..
    are dropped. Absolute paths, and all paths if `anywhere`, are also tried without their first
    folders.
    """
    whole = [plain_path(posixpath.join(base, path.replace("\\", "/"))) for base in bases]
    yield from whole
    for each in whole:
        parts = [part for part in each.split("/") if part != ".."]
        shorter = anywhere or each.startswith("/") or each[1:3] == ":/"
        for begin in range(len(parts) if shorter else 1):
            yield "/".join(parts[begin:])


def _listed_images(files: Files, name: str, bases: Sequence[str]) -> list[str]:
    """Return the images in a list of one path per line. Missing images are included, as bad
    records, unless all are missing.
    """
    lines = map(str.strip, decode_text(files.read(name), files.locate(name)).splitlines())
    finder, images, found = ImageFinder(files, posixpath.dirname(name)), list[str](), False
    for line in filter(None, lines):
        candidates = _candidates(line, [posixpath.dirname(name), *bases], anywhere=True)
        image = next(filter(None, map(files.find, candidates)), None) or finder.find(line)
        images.append(image or plain_path(line))
        found = found or image is not None
    return images if found else []
