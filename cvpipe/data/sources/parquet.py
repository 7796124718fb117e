"""Parquet files with images and their classes or objects in rows, as on public hubs.

Dimensions: R rows of a split.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import tensorflow as tf

from cvpipe.config.tables import Parquet, ParquetBoxes
from cvpipe.data.example import Example, Reader
from cvpipe.data.graph import read_in_python
from cvpipe.data.sources.constructors import classification_source, detection_source
from cvpipe.data.sources.files import open_files
from cvpipe.data.sources.image_size import encoded_size
from cvpipe.data.sources.parquet_rows import (
    Images,
    Table,
    class_names,
    column_reader,
    open_tables,
    row_names,
)
from cvpipe.data.sources.row_objects import collect_items, find_classes, read_items, unknown_class
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.splits import check_folder_splits
from cvpipe.errors import DataError, counted

log = logging.getLogger(__name__)


def parquet(config: Parquet) -> dict[str, Source]:
    """Return the splits named by words in the files' paths, or one split named "all"; images are
    read when a record is read.

    Rows without a class, splits without any row with a class, and objects of unreadable images are
    left out and counted.

    Raises:
        DataError: a file is damaged, a column is missing, a class is unknown, or boxes aren't four
            numbers.
    """
    splits = open_tables(open_files(config.path), config.path)
    check_folder_splits(config.path, {split: each[0].name for split, each in splits.items()})
    for tables in splits.values():
        for table in tables:
            table.check_column(config.image)
    if isinstance(config, ParquetBoxes):
        return _boxes(splits, config)
    return _labels(splits, config)


def _labels(splits: Mapping[str, list[Table]], config: Parquet) -> dict[str, Source]:
    values = {
        split: [value for table in tables for value in table.column(config.label)]
        for split, tables in splits.items()
    }
    labeled = {
        split: np.flatnonzero([value not in (None, -1, "") for value in each])
        for split, each in values.items()
    }
    features = next(iter(splits.values()))[0].features
    known = config.classes or class_names(features, config.label)
    found = [values[split][row] for split, rows in labeled.items() for row in rows]
    classes, position = find_classes(config, known, found)
    sources = {}
    for split, rows in labeled.items():
        if len(rows) < len(values[split]):
            log.warning(
                "%s: left out %s of the %s split that have no class",
                config.path,
                counted(len(values[split]) - len(rows), "row"),
                split,
            )
        if not len(rows):
            continue
        names = list(row_names(splits[split]))
        labels = np.zeros(len(names), np.int32)
        for row in rows.tolist():
            value = values[split][row]
            if value not in position:
                raise unknown_class(f"{config.path}: {names[row]}", value, classes)
            labels[row] = position[value]
        read = _reader(Images(splits[split], config.image, config.path))
        source = classification_source(
            classes, labels, read, names.__getitem__, lambda name: f"{config.path}: {name}"
        )
        sources[split] = _with_columns(source, splits[split]).subset(rows)
    if not sources:
        raise DataError(
            f"{config.path}: no row has a class in the column '{config.label}'; set"
            " data.source.label to another column"
        )
    return sources


def _boxes(splits: Mapping[str, list[Table]], config: ParquetBoxes) -> dict[str, Source]:
    names = {split: list(row_names(tables)) for split, tables in splits.items()}
    items = {
        split: read_items(
            [v for t in tables for v in t.column(config.objects)], names[split], config
        )
        for split, tables in splits.items()
    }
    features = next(iter(splits.values()))[0].features
    known = config.classes or class_names(features, config.objects, config.label)
    every = [item.label for each in items.values() for item in each]
    classes, position = find_classes(config, known, every)
    if not classes:
        raise DataError(f"{config.path}: no object in the column '{config.objects}'")
    sources = {}
    for split, tables in splits.items():
        images = Images(tables, config.image, config.path)
        sizes = partial(size_of, images, upright=config.upright)
        boxes = collect_items(items[split], names[split], sizes, position, classes, config)
        source = detection_source(
            classes,
            boxes,
            _reader(images),
            names[split].__getitem__,
            lambda name: f"{config.path}: {name}",
        )
        sources[split] = _with_columns(source, tables)
    return sources


def _with_columns(source: Source, tables: Sequence[Table]) -> Source:
    return dataclasses.replace(source, read_column=column_reader(tables))


def size_of(images: Images, row: int, upright: bool) -> tuple[int, int] | None:
    """Return height and width of a row's image; None if its header can't be read."""
    try:
        return encoded_size(images.read(row), upright)
    except DataError:
        return None


def _reader(images: Images) -> Reader:
    def read_record(record: tf.Tensor) -> Example:
        return {"bytes": read_in_python(images.read, record)}

    return read_record
