"""Sources of boxes from labeling tools. Their files contain class names, and image paths on the
machine where the images were labeled.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cvpipe.config.box_sources import ToolBoxes
from cvpipe.data.annotations.frame import make_frames
from cvpipe.data.sources.coco_entries import as_number
from cvpipe.data.sources.constructors import detection_source
from cvpipe.data.sources.files import Files, plain_path
from cvpipe.data.sources.folder import split_of
from cvpipe.data.sources.image_paths import find_image, images_by_last
from cvpipe.data.sources.image_size import image_size
from cvpipe.data.sources.objects import WITHOUT_IMAGE, collect
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.splits import warn_of_leaks
from cvpipe.errors import DataError, suggest


class Item(NamedTuple):
    """An object."""

    place: str
    """Name of the object in errors."""
    label: str
    corners: tuple[float, float, float, float]
    """ymin, xmin, ymax, xmax, in pixels counted from 0, or as fractions."""
    crowd: bool = False


class Labeled(NamedTuple):
    """An image with its objects."""

    path: str
    """Path of the image as written by the tool."""
    origin: str
    """Name of the annotation file, for counts of faults."""
    extent: tuple[float, float] | None
    """Height and width in pixels as written by the tool; None if the file doesn't contain them."""
    items: list[Item]
    in_fractions: bool = False
    """True if corners are fractions of the image."""


def tool_source(
    files: Files, config: ToolBoxes, splits: Mapping[str, Sequence[Labeled]], images: str = ""
) -> dict[str, Source]:
    """Make the source of each split. Files are read on demand.

    A missing image is a bad record; its objects are left out and counted.

    Args:
        files: the folder or archive.
        config: the section of the source.
        splits: the images of each split.
        images: folder that paths are relative to.

    Raises:
        DataError: no image of a split exists, an image is annotated twice, a coordinate is invalid,
            or a class is unknown.
    """
    last = images_by_last(files)
    every = [item for split in splits.values() for image in split for item in image.items]
    classes = config.classes or tuple(sorted({item.label for item in every}))
    if not classes:
        raise DataError(f"{config.path}: no object in any file; export the annotations again")
    unknown = next((item for item in every if item.label not in classes), None)
    if unknown:
        raise DataError(
            f"{unknown.place}: data.source.classes has no class '{unknown.label}';"
            f" {suggest(unknown.label, classes)}"
        )
    found = {
        split: [
            # Look beside the annotations first: splits may have images of the same name.
            find_image(files, image.path, images or posixpath.dirname(image.origin), last)
            or find_image(files, image.path, images, last)
            for image in listed
        ]
        for split, listed in splits.items()
    }
    for split, names in found.items():
        if not any(names):
            raise DataError(
                f"{config.path}: none of the images of {splits[split][0].origin} exists, such as"
                f" {splits[split][0].path}; put them into the folder or archive"
            )
        _refuse_twice(splits[split], names)
    named = {
        split: [
            name or plain_path(image.path)
            for name, image in zip(listed, splits[split], strict=True)
        ]
        for split, listed in found.items()
    }
    warn_of_leaks(config.path, named)
    return {
        split: _source(files, config, splits[split], found[split], named[split], classes)
        for split in splits
    }


def _refuse_twice(images: Sequence[Labeled], names: Sequence[str | None]) -> None:
    first: dict[str, Labeled] = {}
    for image, name in zip(images, names, strict=True):
        if name and (before := first.setdefault(name, image)) is not image:
            raise DataError(
                f"{image.origin}: {name} is annotated here and in {before.origin}; keep one of the"
                " two"
            )


def _source(
    files: Files,
    config: ToolBoxes,
    images: Sequence[Labeled],
    found: Sequence[str | None],
    names: Sequence[str],
    classes: tuple[str, ...],
) -> Source:
    extents = [_extent(files, config, *pair) for pair in zip(images, found, strict=True)]
    rows = [
        (record, item)
        for record, image in enumerate(images)
        for item in image.items
        if extents[record]
    ]
    corners = np.array([item.corners for _, item in rows], np.float64).reshape(-1, 4)
    scale = np.array([extents[record] for record, _ in rows], np.float64).reshape(-1, 2)
    label = {name: number for number, name in enumerate(classes)}
    sizes = np.array([image.extent or (0, 0) for image in images], np.float64)
    boxes = collect(
        [image.origin for image in images],
        np.array([record for record, _ in rows], np.int64),
        corners / np.tile(scale, 2),
        np.array([label[item.label] for _, item in rows], np.int32),
        np.array([item.crowd for _, item in rows], bool),
        np.full(len(rows), -1.0),
        lambda row: rows[row][1].place,
        _lost(images, extents),
        frames=make_frames(sizes, config.upright),
    )
    return detection_source(classes, boxes, files.reader(names), names.__getitem__, files.locate)


def _lost(images: Sequence[Labeled], extents: Sequence[Any]) -> dict[str, dict[str, int]]:
    """Count the objects of missing or unreadable images, by annotation file."""
    counts: dict[str, int] = {}
    for image, extent in zip(images, extents, strict=True):
        if not extent and image.items:
            counts[image.origin] = counts.get(image.origin, 0) + len(image.items)
    return {origin: {WITHOUT_IMAGE: count} for origin, count in counts.items()}


def _extent(
    files: Files, config: ToolBoxes, image: Labeled, name: str | None
) -> tuple[float, float] | None:
    """Return the height and width that corners refer to; None if the image is missing."""
    if name is None:
        return None
    if image.in_fractions:
        return 1.0, 1.0
    return image.extent or image_size(files, name, config.upright)


def split_by_folder(name: str) -> str:
    """Return the split of the innermost folder with a split's name; "all" if there is none."""
    folders = name.split("/")[:-1]
    return next((split for split in map(split_of, reversed(folders)) if split), "all")


def around(points: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
    """Return ymin, xmin, ymax, xmax of the box around points (x, y)."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(ys), min(xs), max(ys), max(xs)


def around_ellipse(
    center: tuple[float, float], radii: tuple[float, float], angle: float
) -> tuple[float, float, float, float]:
    """Return ymin, xmin, ymax, xmax of the box around an ellipse.

    Args:
        center: x and y.
        radii: along x and y, before the rotation.
        angle: rotation around the center, in radians; its direction doesn't matter.
    """
    (x, y), (rx, ry) = center, radii
    cosine, sine = math.cos(angle), math.sin(angle)
    half_x, half_y = math.hypot(rx * cosine, ry * sine), math.hypot(rx * sine, ry * cosine)
    return y - half_y, x - half_x, y + half_y, x + half_x


def number(row: Mapping[str, Any], key: str, place: str) -> float:
    """Return a coordinate of an entry; raises DataError if it isn't a finite number."""
    value = as_number(row.get(key))
    if value is None or not math.isfinite(value):
        raise DataError(
            f"{place}: {key} is {row.get(key)!r}, not a number; correct or remove the object"
        )
    return value


def points_of(values: Any, place: str) -> list[tuple[float, float]]:
    """Return a list of [x, y] as points; raises DataError for anything else."""
    pairs = values if isinstance(values, list) else []
    if not pairs or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise DataError(
            f"{place}: its points aren't a list of [x, y]; correct or remove the object"
        )
    return [(number({"x": x}, "x", place), number({"y": y}, "y", place)) for x, y in pairs]


def stated(height: Any, width: Any) -> tuple[float, float] | None:
    """Return the size of an image as written by a tool; None if it isn't stated."""
    sides = (as_number(height), as_number(width))
    return (sides[0], sides[1]) if sides[0] and sides[1] and min(sides[0], sides[1]) > 0 else None


def all_there(files: Files, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each split and the name of its file.

    Raises:
        DataError: a file is missing.
    """
    for split, path in names.items():
        name = files.find(path)
        if name is None:
            raise files.no_such_file(path)
        yield split, name
