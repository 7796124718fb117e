"""Tables with a row per image, its path and its label, in a folder or a zip archive together with
the images.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import re
from collections.abc import Iterable, Sequence
from csv import Error as CsvError
from csv import reader as csv_reader
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from cvpipe.config.label_sources import ClassNames, Csv
from cvpipe.data.sources.constructors import classification_source
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.folder import EXTENSIONS
from cvpipe.data.sources.image_paths import ImageFinder
from cvpipe.data.sources.source import ReadColumn, Source
from cvpipe.errors import DataError, counted, suggest
from cvpipe.text_files import decode_text

log = logging.getLogger(__name__)


class Table(NamedTuple):
    """The content of a table."""

    place: str
    headings: list[str] | None
    rows: list[tuple[int, list[str]]]
    """Rows, each with its line number from 1."""
    name: str
    """Name of the file."""
    delimiter: str


class _Image(NamedTuple):
    line: int
    file: str
    label: str


def csv(config: Csv) -> dict[str, Source]:
    """Return the split of each table. Files are read on demand; a missing file is a bad record.

    Raises:
        DataError: a table or a column is missing, a row is too short, labels contradict each other
            or have no name, or a split has a label that the training table lacks.
    """
    names = {"train": config.train, "validation": config.validation, "test": config.test}
    files = open_files(config.path, [*filter(None, names.values()), config.images])
    tables = {
        split: read_table(files, name, config.delimiter, config.header)
        for split, name in names.items()
        if name
    }
    images = {split: _images(files, table, config) for split, table in tables.items()}
    labels = in_order({image.label for image in images["train"]})
    classes = _class_names(files, labels, config, config.names) if config.names else labels
    for split in images:
        _check_labels(tables[split].place, images[split], labels, tables["train"].place)
    _warn_of_leaks(config.path, images)
    return {
        split: dataclasses.replace(
            _source(files, rows, labels, classes),
            read_column=column_reader(files, tables[split], [[image.line] for image in rows]),
        )
        for split, rows in images.items()
    }


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Sort labels as numbers if all are integers, else as text."""
    known = sorted(labels)
    return tuple(
        sorted(known, key=int)
        if all(re.fullmatch("[+-]?[0-9]+", label) for label in known)
        else known
    )


def _source(
    files: Files, images: list[_Image], labels: tuple[str, ...], classes: tuple[str, ...]
) -> Source:
    names = [image.file for image in images]
    position = {label: number for number, label in enumerate(labels)}
    numbers = np.array([position[image.label] for image in images], np.int32)
    return classification_source(
        classes, numbers, files.reader(names), names.__getitem__, files.locate
    )


def read_table(files: Files, name: str, delimiter: str, header: bool) -> Table:
    """Read a table.

    Raises:
        DataError: the file is missing, empty, or not a table.
    """
    place = files.locate(name)
    text = decode_text(files.read(name), place)
    lines = csv_reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    try:
        rows = [(lines.line_num, [cell.strip() for cell in row]) for row in lines]
    except CsvError as error:
        raise DataError(
            f"{place}:{lines.line_num}: not a table: {error}; correct the line"
        ) from None
    rows = [(line, cells) for line, cells in rows if any(cells)]
    headings = rows.pop(0)[1] if header and rows else None
    if not rows:
        raise DataError(
            f"{place}: no row{' below the headings' if headings else ''}; add rows, or name another"
            " table"
        )
    return Table(place, headings, rows, name, delimiter)


def column_reader(files: Files, table: Table, lines: Sequence[Sequence[int]]) -> ReadColumn:
    """Return a reader of a table's columns. It reads the file again, so that unused columns take no
    memory.

    Args:
        lines: the lines of each record's rows. The values of several rows are joined by commas.
    """
    name, delimiter, header = table.name, table.delimiter, table.headings is not None

    def read(column: str, key: str) -> list[str]:
        again = read_table(files, name, delimiter, header)
        at, cells = column_at(again, column, key), dict(again.rows)

        def value(numbers: Sequence[int]) -> str:
            rows = (cells.get(line, []) for line in numbers)
            return ", ".join(dict.fromkeys(row[at] for row in rows if at < len(row) and row[at]))

        return [value(numbers) for numbers in lines]

    return read


def _images(files: Files, table: Table, config: Csv) -> list[_Image]:
    """Return every image once, in the table's order."""
    path_at = column_at(table, config.path_column, "data.source.path_column")
    label_at = column_at(table, config.label_column, "data.source.label_column")
    if table.headings and PurePosixPath(table.headings[path_at]).suffix.lower() in EXTENSIONS:
        raise DataError(
            f"{table.place}: the first row names an image, {table.headings[path_at]}, and has no"
            " headings; set data.source.header: false"
        )
    finder = ImageFinder(files, config.images)
    first: dict[str, _Image] = {}
    for line, cells in table.rows:
        path, label = (cell_of(table, line, cells, at) for at in (path_at, label_at))
        image = _Image(line, finder.name(path), label)
        before = first.setdefault(image.file, image)
        if before.label != label:
            raise DataError(
                f"{table.place}:{line}: {path} has the label '{label}' here, but '{before.label}'"
                f" in line {before.line}; keep one of the two rows"
            )
    if again := len(table.rows) - len(first):
        log.warning(
            "%s: %d of %d rows name an image that an earlier row names; they are left out",
            table.place,
            again,
            len(table.rows),
        )
    return list(first.values())


def column_at(table: Table, column: str, key: str) -> int:
    """Return a column's index from its heading or index; `key` is its key in the pipeline file."""
    if table.headings and column in table.headings:
        return table.headings.index(column)
    if not column.isdecimal():
        raise DataError(
            f"{table.place}: no column '{column}' ({key}); {suggest(column, table.headings or [])}"
        )
    width = len(table.headings or table.rows[0][1])
    if int(column) >= width:
        raise DataError(
            f"{table.place}: no column {column} ({key}) among {width}, counted from 0; set"
            f" data.source.delimiter to the character that separates columns, or {key} to another"
        )
    return int(column)


def column_name(table: Table, at: int) -> str:
    """Return a column's heading for messages, or its index if the table has no headings."""
    if table.headings and at < len(table.headings):
        return f"the column '{table.headings[at]}'"
    return f"column {at}, counted from 0"


def cell_of(table: Table, line: int, cells: list[str], at: int, empty: bool = False) -> str:
    """Return a cell of a row; raises DataError if it is missing, or empty without `empty`."""
    if at >= len(cells):
        raise DataError(
            f"{table.place}:{line}: the row is cut short: it lacks {column_name(table, at)};"
            " correct or remove the row"
        )
    if not cells[at] and not empty:
        raise DataError(
            f"{table.place}:{line}: the row has no value in {column_name(table, at)}; correct or"
            " remove the row"
        )
    return cells[at]


def _class_names(
    files: Files, labels: tuple[str, ...], config: Csv, names: ClassNames
) -> tuple[str, ...]:
    """Return the name of each label."""
    table = read_table(files, names.file, config.delimiter, header=True)
    label_at, name_at = (
        column_at(table, getattr(names, key), f"data.source.names.{key}")
        for key in ("label", "name")
    )
    named: dict[str, str] = {}
    for line, cells in table.rows:
        label, name = (cell_of(table, line, cells, at) for at in (label_at, name_at))
        if named.setdefault(label, name) != name:
            raise DataError(
                f"{table.place}:{line}: the label '{label}' is called '{name}' here, but"
                f" '{named[label]}' before; keep one"
            )
    owner: dict[str, str] = {}
    for label in labels:
        if label not in named:
            raise DataError(
                f"{table.place}: the label '{label}' has no name; add a row for it."
                f" {suggest(label, named)}"
            )
        if owner.setdefault(named[label], label) != label:
            raise DataError(
                f"{table.place}: the labels '{owner[named[label]]}' and '{label}' have the same"
                f" name, '{named[label]}'; name them differently"
            )
    return tuple(named[label] for label in labels)


def _check_labels(place: str, images: list[_Image], labels: tuple[str, ...], training: str) -> None:
    known = set(labels)
    unknown = next((image for image in images if image.label not in known), None)
    if unknown:
        raise DataError(
            f"{place}:{unknown.line}: the label '{unknown.label}' is not in the training table,"
            f" {training}; {suggest(unknown.label, labels)}. Add images of it there, or remove"
            " the row"
        )


def _warn_of_leaks(path: str, images: dict[str, list[_Image]]) -> None:
    trained = {image.file for image in images["train"]}
    for split, found in images.items():
        both = [image.file for image in found if image.file in trained]
        if both and split != "train":
            log.warning(
                "%s: the training table has %s of the %s table too, such as %s; scores on the %s"
                " split will be too good",
                path,
                counted(len(both), "image"),
                split,
                both[0],
                split,
            )
