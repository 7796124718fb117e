"""Tables with a column per class, 1 for the class of a row's image: Roboflow's multi-class CSV."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Mapping

import numpy as np

from cvpipe.config.label_sources import OneHot
from cvpipe.data.sources.constructors import classification_source
from cvpipe.data.sources.csv import Table, cell_of, column_at, column_name, read_table
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.image_paths import ImageFinder
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.splits import warn_of_leaks
from cvpipe.errors import DataError, counted, suggest

log = logging.getLogger(__name__)

_MARKS = {"0": False, "1": True, "0.0": False, "1.0": True}


def one_hot_csv(config: OneHot) -> dict[str, Source]:
    """Return the split of each table. A missing image is a bad record. Rows without a class or with
    several classes are left out and counted.

    Raises:
        DataError: a table is missing, a cell is neither 0 nor 1, no row has one class, two rows
            have the same image, or classes differ from those of the training table.
    """
    files = open_files(config.path, list(config.files.values()))
    labels = {split: _labels(files, name, config) for split, name in config.files.items()}
    classes = labels["train"][0]
    for split, (listed, _) in labels.items():
        other = next((name for name in listed if name not in classes), None)
        if other is not None or len(listed) != len(classes):
            lacking = other or next(name for name in classes if name not in listed)
            raise DataError(
                f"{files.locate(config.files[split])}: its classes differ from those of"
                f" {files.locate(config.train)}, such as '{lacking}'; {suggest(lacking, classes)}"
            )
    warn_of_leaks(config.path, {split: list(images) for split, (_, images) in labels.items()})
    return {split: _source(files, images, classes) for split, (_, images) in labels.items()}


def _labels(files: Files, name: str, config: OneHot) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the classes in the order of their columns, and each image's class."""
    table = read_table(files, name, ",", header=True)
    path_at = column_at(table, config.path_column, "data.source.path_column")
    headings = table.headings or []
    class_at = [at for at in range(len(headings)) if at != path_at]
    classes = tuple(headings[at] for at in class_at)
    if len(set(classes)) < len(classes):
        raise DataError(f"{table.place}: two columns have the same heading; name them differently")
    finder = ImageFinder(files, posixpath.dirname(name))
    images: dict[str, str] = {}
    unclear = list[str]()
    for line, cells in table.rows:
        path = cell_of(table, line, cells, path_at)
        marked = [headings[at] for at in class_at if _is_marked(table, line, cells, at)]
        if len(marked) != 1:
            unclear.append(path)
            continue
        # Relative to the table, or to the folder or archive.
        image = finder.find(path) or files.find(path) or finder.written(path)
        if image in images:
            raise DataError(f"{table.place}:{line}: {path} has a row already; keep one of the two")
        images[image] = marked[0]
    if unclear:
        log.warning(
            "%s: left out %s of no class or of several, such as %s",
            table.place,
            counted(len(unclear), "image"),
            unclear[0],
        )
    if not images:
        raise DataError(f"{table.place}: no row has exactly one class; name another table")
    return classes, images


def _is_marked(table: Table, line: int, cells: list[str], at: int) -> bool:
    cell = cell_of(table, line, cells, at)
    if cell not in _MARKS:
        raise DataError(
            f"{table.place}:{line}: a value must be 0 or 1, not '{cell}', in"
            f" {column_name(table, at)}; correct the row, or set data.source.path_column"
        )
    return _MARKS[cell]


def _source(files: Files, images: Mapping[str, str], classes: tuple[str, ...]) -> Source:
    names = list(images)
    labels = np.array([classes.index(images[name]) for name in names], np.int32)
    return classification_source(
        classes, labels, files.reader(names), names.__getitem__, files.locate
    )
