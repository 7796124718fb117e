"""YOLO's text files: for each image a file with a line per object, "class cx cy width height", as
fractions of the image.

An image's text file has its path, but for the folder named labels in place of images:
images/train/1.jpg and labels/train/1.txt, or train/images/1.jpg and train/labels/1.txt. An image
without one has no objects. Fractions are those of the upright photo, as labelImg and Ultralytics
have them.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import yaml

from cvpipe.config.data import Yolo
from cvpipe.data.annotations.frame import make_frames
from cvpipe.data.sources.constructors import detection_source
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.folder import EXTENSIONS, SPLITS
from cvpipe.data.sources.objects import IN_PIXELS, WITHOUT_IMAGE, collect
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError

# A box may reach out of its image, but neither is it so large nor does it lie so far outside.
LARGEST_FRACTION = 2


def yolo(config: Yolo) -> dict[str, Source]:
    """The splits that have folders named train, val and test, or one named "all"; records hold the
    images' bytes, unread until asked for.

    Text files without an image are left out and counted.

    Raises:
        DataError: no image is there, the class names are missing, a line is cut short, a number is
            none, or a class is unknown.
    """
    files = open_files(config.path)
    names = files.names()
    images = [
        name
        for name in names
        if PurePosixPath(name).suffix.lower() in EXTENSIONS and config.images in _folders(name)
    ]
    if not images:
        raise DataError(
            f"{config.path}: no image in a folder named '{config.images}'; set data.source.images"
            " to what it is called"
        )
    classes = config.classes or _class_names(files, config.names)
    label_files = {
        name for name in names if name.endswith(".txt") and config.labels in _folders(name)
    }
    if not label_files:
        raise DataError(
            f"{config.path}: no text file in a folder named '{config.labels}'; set"
            " data.source.labels to what it is called"
        )
    splits: dict[str, list[str]] = {}
    for image in images:
        splits.setdefault(_split(image), []).append(image)
    if len(splits) > 1 and "train" not in splits:
        raise DataError(
            f"{config.path}: images of the splits {', '.join(splits)}, but none of train; name its"
            " folder train"
        )
    if len(splits) > 1 and "all" in splits:
        raise DataError(
            f"{config.path}: {splits['all'][0]} belongs to no split, though there are folders of"
            " some; move it into train, val or test"
        )
    return {
        split: _source(files, found, label_files, classes, split, config)
        for split, found in splits.items()
    }


def _folders(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parts[:-1]


def _split(name: str) -> str:
    """What the folders of a file say it is for; "all" where they say nothing."""
    return next((SPLITS[folder] for folder in reversed(_folders(name)) if folder in SPLITS), "all")


def _labels_of(image: str, config: Yolo) -> str:
    """The text file of an image."""
    parts = list(PurePosixPath(image).with_suffix(".txt").parts)
    parts[len(parts) - 1 - parts[::-1].index(config.images)] = config.labels
    return posixpath.join(*parts)


def _class_names(files: Files, name: str) -> tuple[str, ...]:
    place = files.locate(name)
    if name not in files.names():
        raise DataError(
            f"{place}: no such file with the class names; set data.source.names to it, or"
            " data.source.classes"
        )
    try:
        content = yaml.safe_load(files.read(name))
    except yaml.YAMLError as error:
        raise DataError(f"{place}: no YAML ({' '.join(str(error).split())}); mend it") from None
    names = content.get("names") if isinstance(content, dict) else None
    # A list, or a mapping from each number to its name.
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(
            f"{place}: no list named names, nor a mapping from 0, 1, … to names; add it, or set"
            " data.source.classes"
        )
    if len({str(one) for one in names}) < len(names):
        raise DataError(f"{place}: two classes have the same name; name them differently")
    return tuple(str(one) for one in names)


def _source(
    files: Files,
    images: list[str],
    label_files: set[str],
    classes: tuple[str, ...],
    split: str,
    config: Yolo,
) -> Source:
    own = [_labels_of(image, config) for image in images]
    rows = [
        (record, row)
        for record, file in enumerate(own)
        if file in label_files
        for row in _rows(files, file, classes)
    ]
    lost = {
        file: len(_rows(files, file, classes))
        for file in sorted(label_files.difference(own))
        if _split(file) == split
    }
    values = np.array([row[1:] for _, (_, row) in rows]).reshape(-1, 4)
    in_pixels = np.isfinite(values).all(1) & (values > LARGEST_FRACTION).any(1)
    faults = {file: {WITHOUT_IMAGE: count} for file, count in lost.items() if count}
    for file, count in Counter(own[rows[row][0]] for row in np.flatnonzero(in_pixels)).items():
        faults[file] = {IN_PIXELS: count}
    rows = [rows[row] for row in np.flatnonzero(~in_pixels)]
    values = values[~in_pixels]
    centre, half = values[:, 1::-1], values[:, :1:-1] / 2
    boxes = collect(
        own,
        np.array([record for record, _ in rows], np.int64),
        np.concatenate([centre - half, centre + half], 1),
        np.array([row[0] for _, (_, row) in rows], np.int32),
        np.zeros(len(rows), bool),
        np.full(len(rows), -1.0),
        lambda row: rows[row][1][0],
        faults,
        frames=make_frames(np.zeros([len(own), 2]), config.upright),
    )
    return detection_source(classes, boxes, files.reader(images), images.__getitem__, files.locate)


def _rows(files: Files, name: str, classes: Sequence[str]) -> list[tuple[str, tuple[float, ...]]]:
    """Of each line its place, and class, cx, cy, width, height."""
    rows = []
    for number, line in enumerate(files.read(name).decode("utf-8-sig", "replace").splitlines(), 1):
        place, cells = f"{files.locate(name)}:{number}", line.split()
        if not cells:
            continue
        if len(cells) != 5:
            raise DataError(
                f"{place}: {len(cells)} columns; a line must be class, cx, cy, width, height. Mend"
                " or remove it"
            )
        try:
            label, box = int(cells[0]), tuple(map(float, cells[1:]))
        except ValueError:
            raise DataError(
                f"{place}: '{line.strip()}' is no whole number and four numbers; mend or remove the"
                " line"
            ) from None
        if not 0 <= label < len(classes):
            known = ", ".join(f"{known} {name}" for known, name in list(enumerate(classes))[:20])
            raise DataError(f"{place}: no class has the number {label}; known: {known}")
        rows.append((place, (label, *box)))
    return rows
