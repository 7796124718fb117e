"""Tables with one row per image, its path and its keypoints, beside the images.

Dimensions: R images, P keypoints.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cvpipe.config.keypoint_sources import KeypointCsv
from cvpipe.data.annotations.frame import make_frames
from cvpipe.data.annotations.keypoints import HIDDEN, NOT_ANNOTATED, VISIBLE
from cvpipe.data.facts import Facts
from cvpipe.data.sources.csv import Table, cell_of, column_at, column_reader, read_table
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.image_paths import ImageFinder
from cvpipe.data.sources.image_size import image_size
from cvpipe.data.sources.keypoints import (
    OUTSIDE,
    flip_pairs,
    keypoint_source,
    pairs_by_name,
    points_inside,
)
from cvpipe.data.sources.objects import WITHOUT_IMAGE, collect
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.splits import warn_of_leaks
from cvpipe.errors import DataError

log = logging.getLogger(__name__)

LEAST_SIDE = 1.0
"""Minimum side in pixels of a figure's box, for points on a line or at one position."""


class _Column(NamedTuple):
    name: str
    x: int
    y: int
    v: int | None


class _Figures(NamedTuple):
    names: list[str]
    points: np.ndarray
    """float64 [R, P, 2], y and x in pixels; 0 where a point isn't annotated."""
    visibility: np.ndarray
    """int32 [R, P]."""
    lines: list[int]
    """Line of each image in the table."""


def keypoint_csv(config: KeypointCsv) -> dict[str, Source]:
    """Return the split of each table. Reads the header of every image for its size. A missing or
    unreadable image is a bad record without keypoints.

    Raises:
        DataError: a table or a column is missing, tables have different keypoints, a coordinate
            isn't a number, or a name in the pipeline file is unknown.
    """
    given = [config.train, config.validation, config.test]
    files = open_files(config.path, [*filter(None, given), config.images])
    tables = {
        split: read_table(files, name, config.delimiter, header=True)
        for split in ("train", "validation", "test")
        if (name := getattr(config, split))
    }
    columns = {split: _columns(table) for split, table in tables.items()}
    names = tuple(column.name for column in columns["train"])
    for split, found in columns.items():
        if [column.name for column in found] != list(names):
            raise DataError(
                f"{tables[split].place}: has the keypoints"
                f" {', '.join(column.name for column in found)}, but {tables['train'].place}"
                f" has {', '.join(names)}; give all tables the same columns in the same order"
            )
    facts = Facts(
        (config.class_name,),
        names,
        flip_pairs(config.flip_pairs, names),
        pairs_by_name(config.skeleton, names, "data.source.skeleton"),
    )
    figures = {
        split: _figures(files, table, columns[split], config) for split, table in tables.items()
    }
    warn_of_leaks(config.path, {split: each.names for split, each in figures.items()})
    return {
        split: dataclasses.replace(
            _source(files, each, facts, config.upright),
            read_column=column_reader(files, tables[split], [[line] for line in each.lines]),
        )
        for split, each in figures.items()
    }


def _columns(table: Table) -> list[_Column]:
    """Find the columns of each keypoint, in the order of the x columns."""
    headings = table.headings or []
    position = {heading: at for at, heading in enumerate(headings)}
    found = []
    for heading in headings:
        name = heading.removesuffix("_x")
        if name == heading:
            continue
        if f"{name}_y" not in position:
            raise DataError(
                f"{table.place}: there is a column {heading} and no {name}_y; add it, or rename"
                " the column"
            )
        found.append(
            _Column(name, position[heading], position[f"{name}_y"], position.get(f"{name}_v"))
        )
    if not found:
        raise DataError(
            f"{table.place}: no columns of keypoints, such as nose_x and nose_y; head each column"
            " with its keypoint's name and _x, _y or _v"
        )
    return found


def _figures(
    files: Files, table: Table, columns: Sequence[_Column], config: KeypointCsv
) -> _Figures:
    path_at = column_at(table, config.path_column, "data.source.path_column")
    points = np.zeros([len(table.rows), len(columns), 2])
    visibility = np.zeros([len(table.rows), len(columns)], np.int32)
    finder = ImageFinder(files, config.images)
    lines: dict[str, int] = {}
    for number, (line, cells) in enumerate(table.rows):
        path = cell_of(table, line, cells, path_at)
        file = finder.name(path)
        if file in lines:
            raise DataError(
                f"{table.place}:{line}: {path} is already in line {lines[file]}; keep one row per"
                " image"
            )
        lines[file] = line
        for at, column in enumerate(columns):
            read = _point(table, line, cells, column)
            if read is not None:
                *points[number, at], visibility[number, at] = read
    return _Figures(list(lines), points, visibility, list(lines.values()))


def _point(
    table: Table, line: int, cells: list[str], column: _Column
) -> tuple[float, float, int] | None:
    """Return y, x and visibility of a keypoint; None where it isn't annotated."""
    x, y = (cells[at] if at < len(cells) else "" for at in (column.x, column.y))
    flag = cells[column.v] if column.v is not None and column.v < len(cells) else ""
    visibility = _visibility(flag)
    if visibility is None:
        raise DataError(
            f"{table.place}:{line}: {column.name}_v is '{flag}', which must be 0 (not annotated), 1"
            " (hidden) or 2 (visible); correct it"
        )
    if visibility == NOT_ANNOTATED or (not x and not y and not flag):
        return None
    try:
        places = float(y), float(x)
    except ValueError:
        places = math.nan, math.nan
    if not all(map(math.isfinite, places)):
        raise DataError(
            f"{table.place}:{line}: {column.name} is at x '{x}' and y '{y}', not two numbers;"
            " correct them, or leave both empty"
        )
    return (*places, visibility)


def _visibility(flag: str) -> int | None:
    """Return a visibility; VISIBLE if the cell is empty, None if it has another value."""
    if not flag:
        return VISIBLE
    try:
        # pandas writes integer columns with empty cells as 0.0, 1.0 and 2.0.
        value = float(flag)
    except ValueError:
        return None
    return int(value) if value in (NOT_ANNOTATED, HIDDEN, VISIBLE) else None


def _source(files: Files, figures: _Figures, facts: Facts, upright: bool) -> Source:
    sizes = [image_size(files, name, upright) for name in figures.names]
    readable = np.array([size is not None for size in sizes])
    extents = np.array([size or (1, 1) for size in sizes], np.float64)
    places = figures.points / extents[:, np.newaxis]
    given = np.where(readable[:, np.newaxis], figures.visibility, NOT_ANNOTATED)
    points, visibility, beyond = points_inside(places, given)
    annotated = (visibility > 0).any(1)
    faults = {
        name: {WITHOUT_IMAGE: 1}
        for name, there in zip(figures.names, readable, strict=True)
        if not there
    }
    faults |= {figures.names[record]: {OUTSIDE: 1} for record in np.flatnonzero(beyond)}
    shown = np.flatnonzero(annotated)
    rows = len(shown)
    figures_found = collect(
        figures.names,
        shown,
        _boxes(points[shown], visibility[shown], extents[shown]),
        np.zeros(rows, np.int32),
        np.zeros(rows, bool),
        np.full(rows, -1.0),
        lambda row: figures.names[shown[row]],
        faults,
        {"keypoints": points[shown], "visibility": visibility[shown]},
        make_frames(np.zeros([len(sizes), 2]), upright),
    )
    return keypoint_source(
        facts, figures_found, files.reader(figures.names), figures.names.__getitem__, files.locate
    )


def _boxes(points: np.ndarray, visibility: np.ndarray, extents: np.ndarray) -> np.ndarray:
    """Return the smallest boxes around annotated points, with sides of at least LEAST_SIDE: float64
    [R, 4].
    """
    known = visibility[..., np.newaxis] > 0
    low = np.where(known, points, np.inf).min(1).astype(np.float64)
    high = np.where(known, points, -np.inf).max(1).astype(np.float64)
    spare = np.maximum(LEAST_SIDE / extents - (high - low), 0) / 2
    return np.clip(np.concatenate([low - spare, high + spare], axis=1), 0, 1)
