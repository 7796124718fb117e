"""YOLO's text files, with a line per object: "class cx cy width height" as fractions of the image,
or "class x y x y …", a polygon, which is replaced by its bounding box. A confidence and the number
of a track may follow; they are ignored.

A text file has the path of its image, with "labels" instead of "images": images/train/1.jpg and
labels/train/1.txt, or train/images/1.jpg and train/labels/1.txt. It may also be beside the image.
An image without a text file has no objects. Fractions refer to the upright photo, as in labelImg
and Ultralytics.
"""

from __future__ import annotations

import logging
import math
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cvpipe.config.yolo import Yolo
from cvpipe.data.annotations.frame import make_frames
from cvpipe.data.sources.constructors import detection_source
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.folder import SPLITS
from cvpipe.data.sources.objects import IN_PIXELS, WITHOUT_IMAGE, collect
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.splits import warn_of_leaks
from cvpipe.data.sources.yolo_layout import split_images, text_file_of
from cvpipe.data.sources.yolo_names import class_names, read_data_yaml
from cvpipe.errors import DataError, counted
from cvpipe.text_files import decode_text

log = logging.getLogger(__name__)


class _Row(NamedTuple):
    place: str
    label: int
    box: tuple[float, float, float, float]
    """ymin, xmin, ymax, xmax as fractions of the image."""
    size: int
    """Count of numbers after the class."""
    last: float
    tracked: tuple[float, float, float, float] | None
    """The box if the last two numbers are a confidence and the number of a track; None if they
    can't be.
    """


class _LineFormat(NamedTuple):
    """Settings for parsing lines."""

    classes: tuple[str, ...]
    keypoints: bool
    """True if keypoints follow each box."""


# Limit of coordinates. A box may extend beyond its image; larger numbers are taken for pixels.
LARGEST_FRACTION = 2


def yolo(config: Yolo) -> dict[str, Source]:
    """Return the splits in data.yaml, or the splits with folders named train, val and test, or one
    split named "all". Files are read on demand.

    Objects in text files without an image are left out and counted. Text files with other content
    are left out with a warning.

    Raises:
        DataError: there is no image, the class names are missing, a line is too short, a number is
            invalid, a class is unknown, or a split in data.yaml doesn't exist.
    """
    files = open_files(config.path, [config.names, config.images, config.labels, *SPLITS])
    data = read_data_yaml(files, config)
    splits = split_images(files, config, data)
    line_format = _LineFormat(class_names(files, config, data), "kpt_shape" in data)
    text_files = {
        split: [text_file_of(files, image, config) for image in images]
        for split, images in splits.items()
    }
    lost = _lost(
        files, config, line_format, {text for texts in text_files.values() for text in texts}
    )
    warn_of_leaks(config.path, splits)
    first = next(iter(splits))
    return {
        split: _source(
            files,
            images,
            text_files[split],
            line_format,
            lost if split == first else {},
            config.upright,
        )
        for split, images in splits.items()
    }


def _lost(
    files: Files, config: Yolo, line_format: _LineFormat, used: set[str]
) -> dict[str, dict[str, int]]:
    """Count objects in text files without an image, and warn of text files with other content."""
    folders = {posixpath.dirname(name) for name in used}
    texts = [
        name
        for name in files.names()
        if name.endswith(".txt")
        and (config.labels in name.split("/")[:-1] or posixpath.dirname(name) in folders)
    ]
    if not texts:
        raise DataError(
            f"{config.path}: no text file in a folder named '{config.labels}', or beside an image;"
            " set data.source.labels to the name of the folder"
        )
    counts, others = dict[str, int](), list[str]()
    for name in texts:
        if name not in used:
            try:
                counts[name] = len(_read_rows(files, name, line_format))
            except DataError:
                # The file is a list or a note, without objects.
                others.append(name)
    if others:
        log.warning(
            "%s: left out %s among the labels without an image and without objects, such as %s",
            config.path,
            counted(len(others), "text file"),
            others[0],
        )
    return {name: {WITHOUT_IMAGE: count} for name, count in counts.items() if count}


def _source(
    files: Files,
    images: list[str],
    texts: Sequence[str],
    line_format: _LineFormat,
    lost: Mapping[str, Mapping[str, int]],
    upright: bool,
) -> Source:
    found = [
        (record, row)
        for record, name in enumerate(texts)
        if files.find(name)
        for row in _read_rows(files, name, line_format)
    ]
    tracks = _are_tracks([row for _, row in found])
    read = [row.tracked or row.box if tracks else row.box for _, row in found]
    values = np.array(read).reshape(-1, 4)
    in_pixels = np.isfinite(values).all(1) & (np.abs(values) > LARGEST_FRACTION).any(1)
    faults = {file: dict(counts) for file, counts in lost.items()}
    for file, count in Counter(texts[found[row][0]] for row in np.flatnonzero(in_pixels)).items():
        faults[file] = {**faults.get(file, {}), IN_PIXELS: count}
    found = [found[row] for row in np.flatnonzero(~in_pixels)]
    boxes = collect(
        texts,
        np.array([record for record, _ in found], np.int64),
        values[~in_pixels],
        np.array([row.label for _, row in found], np.int32),
        np.zeros(len(found), bool),
        np.full(len(found), -1.0),
        lambda number: found[number][1].place,
        faults,
        frames=make_frames(np.zeros([len(texts), 2]), upright),
    )
    return detection_source(
        line_format.classes, boxes, files.reader(images), images.__getitem__, files.locate
    )


def _read_rows(files: Files, name: str, line_format: _LineFormat) -> list[_Row]:
    place = files.locate(name)
    return [
        _row(f"{place}:{number}", line, line_format)
        for number, line in enumerate(decode_text(files.read(name), place).splitlines(), 1)
        if line.strip()
    ]


def _row(place: str, line: str, line_format: _LineFormat) -> _Row:
    cells = line.split()
    if len(cells) < 5:
        raise DataError(
            f"{place}: the line has {counted(len(cells), 'column')}, but must be class, cx, cy,"
            " width, height, or class and the corners of a polygon; correct or remove it"
        )
    try:
        label, *values = map(float, cells)
    except ValueError:
        label, values = 0.5, []
    if not label.is_integer():
        raise DataError(
            f"{place}: the line '{line.strip()}' must begin with the whole number of a class,"
            " followed by coordinates; correct or remove it"
        )
    if not 0 <= label < len(line_format.classes):
        known = ", ".join(
            f"{known} {name}" for known, name in list(enumerate(line_format.classes))[:20]
        )
        raise DataError(
            f"{place}: no class has the number {label:.0f}; correct it, or name more classes"
            f" (known: {known})"
        )
    keypoints = line_format.keypoints
    may_be_tracked = len(values) >= 6 and len(values) % 2 == 0 and _is_track(values[-1])
    tracked = _box(values[:-2], keypoints) if may_be_tracked else None
    return _Row(place, int(label), _box(values, keypoints), len(values), values[-1], tracked)


def _is_track(value: float) -> bool:
    return value >= 1 and value.is_integer()


def _are_tracks(rows: Sequence[_Row]) -> bool:
    """Return True if objects end in a confidence and the number of a track, as Ultralytics writes
    them, and not in the corner of a polygon.

    All of a split's long lines must allow it. Corners may be on the lower edge of the image, at 1;
    but a larger coordinate isn't a whole number, and polygons aren't all triangles.
    """
    long = [row for row in rows if row.size > 5]
    return all(row.tracked for row in long) and (
        any(row.last > 1 for row in long) or all(row.size == 6 for row in long)
    )


def _box(values: Sequence[float], keypoints: bool) -> tuple[float, float, float, float]:
    """Return the box of a line's numbers: center and sides, or a polygon's corners. An extra number
    at the end is a confidence.
    """
    if not all(map(math.isfinite, values)):
        return (math.nan,) * 4
    if len(values) <= 5 or keypoints:
        cx, cy, width, height = values[:4]
        return cy - height / 2, cx - width / 2, cy + height / 2, cx + width / 2
    even = len(values) // 2 * 2
    x, y = values[0:even:2], values[1:even:2]
    return min(y), min(x), max(y), max(x)
