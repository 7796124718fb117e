"""Images in one folder per class, optionally below folders train, validation and test."""

from __future__ import annotations

import logging
import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np

from cvpipe.config.label_sources import Folder
from cvpipe.data.sources.constructors import classification_source
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError, counted
from cvpipe.user_paths import same_form

log = logging.getLogger(__name__)

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
    "testing": "test",
}


def folder(config: Folder) -> dict[str, Source]:
    """Return the splits found, or one split named "all". Files are read on demand.

    Raises:
        DataError: the folder is missing or has no class, a class or a split has no image, or a
            split has a class that train lacks.
    """
    files = open_files(config.path, [*SPLITS, config.root])
    root = files.find_folder(config.root)
    if root is None:
        raise DataError(
            f"{files.locate(config.root)}: no such folder; set data.source.root to the folder that"
            " contains the folders of classes or splits"
        )
    below = [posixpath.join(root, child) for child in _folders(files, root)]
    splits: dict[str, str] = {}
    for child in below:
        split = split_of(posixpath.basename(child))
        if split in splits:
            raise DataError(
                f"{files.locate(child)}: this folder and {files.locate(splits[split])} are the same"
                " split; keep one of the two"
            )
        if split:
            splits[split] = child
    if "train" in splits:
        return _given(files, below, splits)
    if splits:
        mistaken = files.locate(next(iter(splits.values())))
        raise DataError(
            f"{mistaken}: looks like a split, but there is no folder named train beside it; name"
            " the folders of the splits train, validation and test, or rename this folder if it is"
            " a class"
        )
    return {"all": _split(files, root, _classes(files, root))}


def split_of(folder: str) -> str | None:
    """Return the split that a folder's name stands for, ignoring case; None for other names."""
    return SPLITS.get(folder.lower())


def is_image(name: str) -> bool:
    """Return True if a file's name has an image's extension."""
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def by_stem(
    names: Iterable[str], folder: str, suffix: str = "", deep: bool = False
) -> dict[str, str]:
    """Return the images in a folder, and below it if `deep`, by their relative path without
    extension and suffix, in a normalized form of Unicode. The folder "" is the root. Images without
    the suffix are left out.

    Of several images that differ only in the extension, the first by name is taken, with a warning.
    """
    taken, others = dict[str, str](), list[tuple[str, str]]()
    start = f"{folder}/" if folder else ""
    for name in sorted(names):
        path = name[len(start) :]
        key = same_form(posixpath.splitext(path)[0])
        inside = name.startswith(start) and (deep or "/" not in path)
        if inside and is_image(name) and key.endswith(suffix):
            first = taken.setdefault(key.removesuffix(suffix), name)
            others += [(name, first)] if first != name else []
    if others:
        log.warning(
            "%s: left out %s whose name differs from another image's in the extension alone, such"
            " as %s beside %s; keep one of each name",
            folder or ".",
            counted(len(others), "image"),
            *others[0],
        )
    return taken


def _given(files: Files, below: Sequence[str], splits: dict[str, str]) -> dict[str, Source]:
    for child in below:
        if not split_of(posixpath.basename(child)):
            log.warning(
                "%s: left out; beside train, only folders with these names are read: %s",
                files.locate(child),
                ", ".join(name for name, split in SPLITS.items() if split != "train"),
            )
    # The training split defines the classes and their order.
    classes = _classes(files, splits["train"])
    return {split: _split(files, child, classes) for split, child in splits.items()}


def _folders(files: Files, above: str) -> list[str]:
    """Return the folders in a folder, including links to folders that are listed under another
    name.
    """
    every = files.listing.folders.union(files.listing.aliases)
    return sorted(
        posixpath.basename(name) for name in every if name and posixpath.dirname(name) == above
    )


def _classes(files: Files, above: str) -> tuple[str, ...]:
    names = sorted(set(map(same_form, _folders(files, above))))
    if not names:
        place = files.locate(above)
        raise DataError(
            f"{place}: no folder of a class inside; put each image at"
            f" {posixpath.join(place, '<class>')}/<image>"
        )
    return tuple(names)


def _split(files: Files, above: str, classes: tuple[str, ...]) -> Source:
    folders = _folders(files, above)
    unknown = [name for name in folders if same_form(name) not in classes]
    if unknown:
        raise DataError(
            f"{files.locate(posixpath.join(above, unknown[0]))}: class '{unknown[0]}' is not in the"
            f" training split, which has {', '.join(classes)}; rename the folder, or add the class"
            " there"
        )
    found = _by_folder(files, above)
    _warn_of_loose_images(
        files, above, [name for name in found.pop("", []) if is_image(name)], bool(folders)
    )
    for name in folders:
        if not any(map(is_image, found.get(same_form(name), []))):
            raise DataError(_without_image(files, posixpath.join(above, name)))
    images: list[str] = []
    labels: list[int] = []
    others: Counter[str] = Counter()
    for label, name in enumerate(classes):
        inside = found.get(name, [])
        images_inside = [file for file in inside if is_image(file)]
        others.update(
            PurePosixPath(file).suffix.lower() or "without extension"
            for file in inside
            if not is_image(file)
        )
        images += images_inside
        labels += [label] * len(images_inside)
    if others:
        counts = ", ".join(f"{count} {extension}" for extension, count in others.most_common(5))
        log.warning(
            "%s: left out these files: %s; only %s are read as images",
            files.locate(above),
            counts,
            ", ".join(sorted(EXTENSIONS)),
        )
    return classification_source(
        classes, np.array(labels, np.int32), files.reader(images), images.__getitem__, files.locate
    )


def _by_folder(files: Files, above: str) -> dict[str, list[str]]:
    """Return the files below a folder by its direct subfolder, in a normalized form of Unicode; ""
    for files in the folder itself.
    """
    found: dict[str, list[str]] = {}
    start = f"{above}/" if above else ""
    for name in files.names():
        if name.startswith(start):
            inner, slash, _ = name[len(start) :].partition("/")
            found.setdefault(same_form(inner) if slash else "", []).append(name)
    return found


def _warn_of_loose_images(
    files: Files, above: str, loose: Sequence[str], has_classes: bool
) -> None:
    """Warn of images beside the folders of classes; raise DataError without such folders."""
    place = files.locate(above)
    if loose and has_classes:
        log.warning(
            "%s: left out %s beside the folders of the classes, such as %s; move each into the"
            " folder of its class",
            place,
            counted(len(loose), "image"),
            loose[0],
        )
    elif above in files.listing.aliases:
        raise DataError(_without_image(files, above))
    elif not has_classes:
        seen = (
            f"{counted(len(loose), 'image')} outside the folders of the classes, such as {loose[0]}"
            if loose
            else "the split is empty"
        )
        raise DataError(
            f"{place}: {seen}; put each image at {posixpath.join(place, '<class>')}/<image>, or"
            " move this folder away to have training images held out instead"
        )


def _without_image(files: Files, name: str) -> str:
    place = files.locate(name)
    if name in files.listing.aliases:
        other = files.locate(files.listing.aliases[name])
        return f"{place}: a link to {other}, which is read already; remove one of the two"
    return (
        f"{place}: no image inside ({', '.join(sorted(EXTENSIONS))}); add images, or remove the"
        " folder"
    )
