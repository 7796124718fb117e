"""A folder per class, images inside; as one set, or inside folders named train, validation and
test.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePath, PurePosixPath

import numpy as np

from cvpipe.config.data import Folder
from cvpipe.data.sources.constructors import classification_source
from cvpipe.data.sources.files import FolderFiles
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError

log = logging.getLogger(__name__)

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
SPLITS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}


def folder(config: Folder) -> dict[str, Source]:
    """The splits found, or one named "all"; records hold the files' bytes, unread until they are
    asked for.

    Raises:
        DataError: the folder is missing, holds no class, a class holds no image, or a split has a
            class that train lacks.
    """
    path = Path(config.path)
    if not path.is_dir():
        raise DataError(
            f"{path}: no such folder; set data.source.path to a folder that holds one folder per"
            " class"
        )
    below = _folders(path)
    if not any(child.name == "train" for child in below):
        mistaken = next(
            (child for child in below if child.name.lower() in {*SPLITS, "training", "testing"}),
            None,
        )
        if mistaken:
            hint = "name them train, validation and test, or rename this one if it is a class"
            raise DataError(
                f"{mistaken}: looks like a split, but there is no folder named train beside it;"
                f" {hint}"
            )
        return {"all": _split(path, _classes(path), path)}
    splits: dict[str, Path] = {}
    for child in below:
        if child.name not in SPLITS:
            log.warning(
                "%s: left out; the folders beside train are %s",
                child,
                ", ".join(name for name in SPLITS if name != "train"),
            )
        elif SPLITS[child.name] in splits:
            raise DataError(
                f"{child}: the same split as {splits[SPLITS[child.name]]}; keep one of the two"
                " folders"
            )
        else:
            splits[SPLITS[child.name]] = child
    # The training split says which classes there are, and their order.
    classes = _classes(splits["train"])
    return {split: _split(child, classes, path) for split, child in splits.items()}


def by_stem(names: Iterable[str], folder: str) -> dict[str, str]:
    """The images among files that lie in a folder itself, by their names without extension; "" is
    where all names begin.

    Of several that differ in the extension only, the first by name is taken; the others are left
    out with a warning.
    """
    inside, taken, others = PurePosixPath(folder), dict[str, str](), list[tuple[str, str]]()
    for file in map(PurePosixPath, sorted(names)):
        if file.parent == inside and _is_image(PurePath(file.name)):
            first = taken.setdefault(file.stem, str(file))
            others += [(str(file), first)] if first != str(file) else []
    if others:
        log.warning(
            "%s: %d images have the name of another but for the extension and are left out, such as"
            " %s beside %s; keep one of each name",
            inside,
            len(others),
            *others[0],
        )
    return taken


def _folders(path: Path) -> list[Path]:
    return sorted(
        child for child in path.iterdir() if child.is_dir() and not child.name.startswith(".")
    )


def _classes(path: Path) -> tuple[str, ...]:
    names = tuple(child.name for child in _folders(path))
    if not names:
        raise DataError(f"{path}: no folder per class inside; expected {path}/<class>/<image>")
    return names


def _is_image(inside: PurePath) -> bool:
    # Hidden files are no images, whatever they are called: macOS's "._x.jpg", or what is in
    # ".ipynb_checkpoints".
    return inside.suffix.lower() in EXTENSIONS and not any(
        part.startswith(".") for part in inside.parts
    )


def _split(path: Path, classes: tuple[str, ...], root: Path) -> Source:
    unknown = [child.name for child in _folders(path) if child.name not in classes]
    if unknown:
        raise DataError(
            f"{path / unknown[0]}: class '{unknown[0]}' is not in the training split, which has"
            f" {', '.join(classes)}"
        )
    files: list[str] = []
    labels: list[int] = []
    others: Counter[str] = Counter()
    for label, name in enumerate(classes):
        found = [file.relative_to(root) for file in (path / name).rglob("*") if file.is_file()]
        images = sorted(str(file) for file in found if _is_image(file))
        others.update(
            file.suffix.lower() or "no extension" for file in found if not _is_image(file)
        )
        if not images and (path / name).is_dir():
            raise DataError(
                f"{path / name}: no image inside ({', '.join(sorted(EXTENSIONS))}); add some or"
                " remove the folder"
            )
        files += images
        labels += [label] * len(images)
    if others:
        counts = ", ".join(f"{count} {extension}" for extension, count in others.most_common(5))
        log.warning(
            "%s: left out, since only %s are taken for images: %s",
            path,
            ", ".join(sorted(EXTENSIONS)),
            counts,
        )
    place = FolderFiles(root)
    return classification_source(
        classes, np.array(labels, np.int32), place.reader(files), files.__getitem__, place.locate
    )
