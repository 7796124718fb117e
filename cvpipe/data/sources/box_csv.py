"""Tables with one row per object: an image, a class and the sides of a box."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping

from cvpipe.config.box_sources import BoxCsv
from cvpipe.data.sources.csv import Table, cell_of, column_at, column_reader, read_table
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.flags import flag_of_text
from cvpipe.data.sources.source import ReadColumn, Source
from cvpipe.data.sources.tool_boxes import Item, Labeled, all_there, number, stated, tool_source
from cvpipe.errors import DataError, suggest
from cvpipe.text_files import decode_text

_SIDES = ("left", "top", "right", "bottom")


def box_csv(config: BoxCsv) -> dict[str, Source]:
    """Return the split of each table, without images that have no row.

    Raises:
        DataError: a table or a column is missing, a row is too short, a number is invalid, no image
            exists, or a class is unknown.
    """
    names = [config.names] if config.names else []
    files = open_files(config.path, [*config.files.values(), config.images, *names])
    named = _names(files, config.names) if config.names else None
    splits, columns = dict[str, list[Labeled]](), dict[str, ReadColumn]()
    for split, name in all_there(files, config.files):
        table = read_table(files, name, config.delimiter, config.header)
        splits[split], lines = _images(table, name, config, named)
        columns[split] = column_reader(files, table, lines)
    sources = tool_source(files, config, splits, config.images)
    return {
        split: dataclasses.replace(source, read_column=columns[split])
        for split, source in sources.items()
    }


def _images(
    table: Table, name: str, config: BoxCsv, named: Mapping[str, str] | None
) -> tuple[list[Labeled], list[list[int]]]:
    """Return the images, and the lines of each."""
    path_at = column_at(table, config.path_column, "data.source.path_column")
    label_at = column_at(table, config.label_column, "data.source.label_column")
    sides_at = [column_at(table, c, "data.source.box_columns") for c in config.box_columns]
    crowd_at = None
    if config.crowd_column:
        crowd_at = column_at(table, config.crowd_column, "data.source.crowd_column")
    headings = [heading.lower() for heading in table.headings or ()]
    size_at = None
    if {"width", "height"} <= set(headings) and not config.fractions:
        # In TensorFlow's tutorials, the columns width and height are those of the image, not of the
        # box.
        columns = (headings.index("height"), headings.index("width"))
        size_at = None if set(columns) & set(sides_at) else columns
    images: dict[str, Labeled] = {}
    lines: dict[str, list[int]] = {}
    for line, cells in table.rows:
        where = f"{table.place}:{line}"
        path, label = (cell_of(table, line, cells, at) for at in (path_at, label_at))
        sides = [cell_of(table, line, cells, at) for at in sides_at]
        values = dict(zip(_SIDES, sides, strict=True))
        left, top, right, bottom = (number(values, side, where) for side in _SIDES)
        if named is not None and label not in named:
            raise DataError(
                f"{where}: {config.names} has no name for '{label}'; {suggest(label, named)}"
            )
        label = named[label] if named is not None else label
        crowd = crowd_at is not None and flag_of_text(
            cell_of(table, line, cells, crowd_at), where, str(config.crowd_column)
        )
        sizes = [cell_of(table, line, cells, at, empty=True) for at in size_at or ()]
        extent = stated(*sizes) if sizes else None
        image = images.setdefault(path, Labeled(path, name, extent, [], config.fractions))
        image.items.append(Item(f"{where} ({label})", label, (top, left, bottom, right), crowd))
        lines.setdefault(path, []).append(line)
    return list(images.values()), list(lines.values())


def _names(files: Files, name: str) -> dict[str, str]:
    place = files.locate(name)
    rows = [row for row in csv.reader(io.StringIO(decode_text(files.read(name), place))) if row]
    short = next((number for number, row in enumerate(rows, 1) if len(row) < 2), None)
    if short or not rows:
        raise DataError(f"{place}:{short or 1}: a row must be a label and its name; correct it")
    return {row[0].strip(): row[1].strip() for row in rows}
