"""Tables with an image and its label in each row."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from cvpipe.data.formats.found import (
    ANNOTATED,
    CLASSIFICATION,
    POSE,
    Found,
    Place,
    one_a_split,
    some,
    split_in,
)
from cvpipe.data.sources.folder import EXTENSIONS
from cvpipe.errors import DataError, counted

SPLITS = ("train", "validation", "test")
_LABELS = ("label", "labels", "class", "class_name", "classname", "category", "target", "species")
_SIDES = {"xmin", "ymin", "xmax", "ymax"}
_ID = re.compile(r"\b(id|label|index|number|code)\b", re.I)
_NAME = re.compile(r"name|class|label|title", re.I)


class Table(NamedTuple):
    """A table that names images."""

    name: str
    delimiter: str
    headings: list[str] | None
    rows: list[list[str]]
    path_at: int
    """Column of the images' paths."""
    images: str
    """Folder that the paths are relative to."""

    def column(self, at: int) -> str:
        """Return a column's name in a pipeline: its heading, or its position."""
        return self.headings[at] if self.headings else str(at)

    def cells(self, at: int) -> list[str]:
        """Return a column's cells, "" for rows that are too short."""
        return [row[at] if at < len(row) else "" for row in self.rows]


def find(place: Place) -> Iterator[Found]:
    """Yield tables of labels, and tables of keypoints."""
    tables = read_tables(place)
    points = [table for table in tables if _point_names(table)]
    if points:
        yield _found(place, points, POSE, {"kind": "keypoint_csv"}, "keypoints", ())
        return
    tables = [each for each in tables if not _is_of_objects(each) and not is_one_hot(each)]
    if not tables:
        return
    # All tables have the same columns; the largest is the most informative.
    table = max(tables, key=lambda table: len(table.rows))
    at = _label_at(table)
    if at is None:
        return
    source: dict[str, Any] = {"kind": "csv"}
    if not table.headings:
        source["header"] = False
    if table.column(at) != "1":
        source["label_column"] = table.column(at)
    remarks = list[str]()
    others = [table.column(n) for n in _repeating(table) if n != at]
    if others:
        remarks.append(
            f"Labels are read from column {table.column(at)}; {' and '.join(others)} may hold"
            " labels, too: choose with data.source.label_column"
        )
    labels = {label for each in tables for label in each.cells(at)}
    if names := _names(place, table, labels):
        source["names"] = names
    yield _found(place, tables, CLASSIFICATION, source, "a label", tuple(remarks))


def _found(
    place: Place,
    tables: Sequence[Table],
    task: str,
    source: dict[str, Any],
    what: str,
    remarks: tuple[str, ...],
) -> Found:
    splits = one_a_split(place, [table.name for table in tables], "tables of images")
    table = next(each for each in tables if each.name == splits["train"])
    folders = {each.images for each in tables}
    if len(folders) > 1:
        raise DataError(
            f"{place.path}: the paths in {' and '.join(each.name for each in tables)} are relative"
            " to different folders; make them relative to one folder"
        )
    values: dict[str, Any] = {"kind": source["kind"], "path": place.path}
    values |= {split: place.key(splits[split]) for split in SPLITS if split in splits}
    if key := place.key_or_nothing(table.images):
        values["images"] = key
    if table.delimiter != ",":
        values["delimiter"] = table.delimiter
    if table.column(table.path_at) != "0" and table.path_at:
        values["path_column"] = table.column(table.path_at)
    names = " and ".join(values[split] for split in SPLITS if split in splits)
    number = sum(len(each.rows) for each in tables)
    why = f"{names} {'name' if len(splits) > 1 else 'names'} {counted(number, 'image')} with {what}"
    return Found(task, {**values, **source}, why, ANNOTATED, remarks)


def read_tables(place: Place) -> list[Table]:
    """Return the tables in which nearly every row names an existing image."""
    tables = list[Table]()
    stems = place.by_stem
    for name in place.ending(".csv", ".tsv", ".txt"):
        # A text file named after an image annotates that image; it isn't a table.
        if PurePosixPath(name).suffix == ".txt" and PurePosixPath(name).stem in stems:
            continue
        if table := _table(place, name):
            tables.append(table)
    return tables


def _table(place: Place, name: str) -> Table | None:
    text = place.text(name) or ""
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t|", key=first.count)
    if not first.count(delimiter):
        return None
    try:
        lines = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
        rows = [[cell.strip() for cell in row] for row in lines if any(row)]
    except csv.Error as error:
        place.near.append(f"{name} is not a table ({error})")
        return None
    at = next((n for n, cell in enumerate(rows[-1]) if _is_path(cell)), None)
    if at is None:
        return None
    headings = None if at < len(rows[0]) and _is_path(rows[0][at]) else rows.pop(0)
    paths = [row[at] for row in rows if at < len(row)]
    looked = some(paths)
    folder, found = place.prefix_of(looked, split_in(name) or "train", name)
    if found < 0.95 * len(looked):
        place.near.append(
            f"{name} names {counted(len(paths), 'image')}, but only {found} of {len(looked)}"
            " checked images exist"
        )
        return None
    return Table(name, delimiter, headings, rows, at, folder)


def _is_path(cell: str) -> bool:
    return PurePosixPath(cell).suffix.lower() in EXTENSIONS


def _label_at(table: Table) -> int | None:
    """Return the column of labels: one with a common heading, else the first whose cells repeat."""
    for wanted in _LABELS if table.headings else ():
        for at, heading in enumerate(table.headings or ()):
            if heading.lower() == wanted and at != table.path_at:
                return at
    return next(iter(_repeating(table)), None)


def is_one_hot(table: Table) -> bool:
    """Return True if a table has two or more columns besides the column of paths, and they
    contain only 0 and 1.
    """
    width = len(table.headings or ())
    others = [at for at in range(width) if at != table.path_at]
    return len(others) > 1 and all(set(table.cells(at)) <= {"0", "1"} for at in others)


def _is_of_objects(table: Table) -> bool:
    """Return True if rows are objects: they have the sides of a box, or repeat images."""
    paths = table.cells(table.path_at)
    headings = {heading.lower() for heading in table.headings or ()}
    return headings >= _SIDES or len(set(paths)) < 0.9 * len(paths)


def _repeating(table: Table) -> list[int]:
    """Return columns with at least two different values, each of which occurs in two or more rows
    on average.
    """
    width = min(len(row) for row in table.rows)
    kinds = {at: set(table.cells(at)) for at in range(width) if at != table.path_at}
    return [
        at
        for at, values in kinds.items()
        if 2 <= len(values) <= len(table.rows) / 2 and "" not in values
    ]


def _point_names(table: Table) -> list[str]:
    headings = set(table.headings or ())
    return [h[:-2] for h in headings if h.endswith("_x") and f"{h[:-2]}_y" in headings]


def _names(place: Place, table: Table, labels: set[str]) -> dict[str, str] | None:
    """Return the keys of `data.source.names`: a table with a name for every label. None if there is
    no such table, or labels aren't numbers.
    """
    if not all(label.isdecimal() for label in labels):
        return None
    for name in place.ending(".csv", ".tsv"):
        lines = csv.reader(
            io.StringIO(place.text(name) or ""), delimiter=table.delimiter, skipinitialspace=True
        )
        headings, *rows = [[cell.strip() for cell in row] for row in lines if any(row)] or [[]]
        rows = [row for row in rows if len(row) == len(headings)]
        columns = dict(zip(headings, zip(*rows, strict=True), strict=False)) if rows else {}
        for label, numbers in columns.items():
            if not _ID.search(label) or len(set(numbers)) < len(numbers) or labels - set(numbers):
                continue
            for heading, names in columns.items():
                named = {n: text for n, text in zip(numbers, names, strict=True) if n in labels}
                if (
                    heading != label
                    and _NAME.search(heading)
                    and len(set(named.values())) == len(labels)
                    and not any(text.isdecimal() for text in named.values())
                ):
                    return {"file": place.key(name), "label": label, "name": heading}
    return None
