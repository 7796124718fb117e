"""Parquet files with images and their classes or objects in rows, as on public hubs.

Dimensions: R rows of a split.
"""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from cvpipe.config.tables import Parquet, ParquetBoxes
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.annotations.frame import make_frames
from cvpipe.data.example import Example, Reader
from cvpipe.data.graph import read_in_python
from cvpipe.data.sources.constructors import classification_source, detection_source
from cvpipe.data.sources.files import open_files
from cvpipe.data.sources.flags import flag_of_json
from cvpipe.data.sources.objects import WITHOUT_IMAGE, collect
from cvpipe.data.sources.parquet_rows import Images, Table, class_names, open_tables, row_names
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.splits import check_folder_splits
from cvpipe.errors import DataError, counted, suggest

log = logging.getLogger(__name__)

_CROWD = ("iscrowd", "is_crowd", "crowd")
# Exif's tag of the orientation, and its values that swap height and width.
_ORIENTATION, _ON_THEIR_SIDE = 0x0112, range(5, 9)


class _Item(NamedTuple):
    row: int
    place: str
    label: Any
    box: list[float]
    crowd: bool
    area: float


def parquet(config: Parquet) -> dict[str, Source]:
    """Return the splits named by words in the files' paths, or one named "all"; images are read
    when a record is read.

    Rows without a class, splits that have only such rows, and objects of unreadable images are left
    out and counted.

    Raises:
        DataError: a file is damaged, a column is missing, a class is unknown, or boxes aren't four
            numbers.
    """
    splits = open_tables(open_files(config.path), config.path)
    check_folder_splits(config.path, {split: own[0].name for split, own in splits.items()})
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
        split: np.flatnonzero([value is not None and value != -1 for value in own])
        for split, own in values.items()
    }
    features = next(iter(splits.values()))[0].features
    known = config.classes or class_names(features, config.label)
    found = [values[split][row] for split, rows in labeled.items() for row in rows]
    classes, position = _classes(config, known, found)
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
                raise _unknown(f"{config.path}: {names[row]}", value, classes)
            labels[row] = position[value]
        read = _reader(Images(splits[split], config.image, config.path))
        source = classification_source(
            classes, labels, read, names.__getitem__, lambda name: f"{config.path}: {name}"
        )
        sources[split] = source.subset(rows)
    if not sources:
        raise DataError(
            f"{config.path}: no row has a class in the column '{config.label}'; set"
            " data.source.label to another column"
        )
    return sources


def _classes(
    config: Parquet, known: Sequence[str], found: Sequence[Any]
) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return the class names, and the position in them of each number or name in the column."""
    if known:
        by_name = {name: number for number, name in enumerate(known)}
        return tuple(known), {**by_name, **dict(enumerate(range(len(known))))}
    odd = next((value for value in found if not isinstance(value, int | str)), None)
    if odd is not None:
        raise DataError(
            f"{config.path}: '{odd}' in '{config.label}' is neither a number nor a name of a class;"
            " set data.source.label to another column"
        )
    values = sorted(set(found), key=lambda value: (isinstance(value, str), value))
    return tuple(map(str, values)), {value: number for number, value in enumerate(values)}


def _unknown(place: str, value: Any, classes: Sequence[str]) -> DataError:
    return DataError(f"{place}: no class is called '{value}'; {suggest(str(value), classes)}")


def _boxes(splits: Mapping[str, list[Table]], config: ParquetBoxes) -> dict[str, Source]:
    names = {split: list(row_names(tables)) for split, tables in splits.items()}
    items = {
        split: list(
            _items([v for t in tables for v in t.column(config.objects)], names[split], config)
        )
        for split, tables in splits.items()
    }
    features = next(iter(splits.values()))[0].features
    known = config.classes or class_names(features, config.objects, config.label)
    every = [item.label for own in items.values() for item in own]
    classes, position = _classes(config, known, every)
    if not classes:
        raise DataError(f"{config.path}: no object in the column '{config.objects}'")
    sources = {}
    for split, tables in splits.items():
        images = Images(tables, config.image, config.path)
        boxes = _objects(items[split], names[split], images, position, classes, config)
        sources[split] = detection_source(
            classes,
            boxes,
            _reader(images),
            names[split].__getitem__,
            lambda name: f"{config.path}: {name}",
        )
    return sources


def _items(values: Sequence[Any], names: Sequence[str], config: ParquetBoxes) -> list[_Item]:
    """Return all objects of a split."""
    items = []
    for row, value in enumerate(values):
        for number, each in enumerate(_objects_of(value, names[row], config)):
            place = f"{config.path}: {names[row]} object {number}"
            for key in (config.label, config.box):
                if key not in each:
                    raise DataError(f"{place}: has no '{key}'; {suggest(key, each)}")
            box, area = each[config.box], each.get("area")
            if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
                raise DataError(
                    f"{place}: '{config.box}' is {box}, not four numbers; mend or remove the object"
                )
            crowd = any(flag_of_json(each.get(key), place, key) for key in _CROWD)
            stated = float(area) if isinstance(area, int | float) else -1.0
            items.append(_Item(row, place, each[config.label], box, crowd, stated))
    return items


def _objects_of(value: Any, name: str, config: ParquetBoxes) -> list[Mapping[str, Any]]:
    """Return the objects of a row, from a list of structures or a structure of lists."""
    if value is None:
        return []
    if isinstance(value, dict):
        lists = {key: own for key, own in value.items() if isinstance(own, list)}
        if len({len(own) for own in lists.values()}) > 1:
            raise DataError(
                f"{config.path}: {name}: the lists of '{config.objects}' differ in length; mend or"
                " remove the row"
            )
        rows = zip(*lists.values(), strict=True)
        return [dict(zip(lists, row, strict=True)) for row in rows]
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        return value
    raise DataError(
        f"{config.path}: {name}: '{config.objects}' is neither a list of objects nor a structure of"
        " lists; set data.source.objects to another column"
    )


def _objects(
    items: Sequence[_Item],
    names: Sequence[str],
    images: Images,
    position: Mapping[Any, int],
    classes: Sequence[str],
    config: ParquetBoxes,
) -> Boxes:
    odd = next((item for item in items if item.label not in position), None)
    if odd:
        raise _unknown(odd.place, odd.label, classes)
    wanted = {item.row for item in items}
    sizes = {row: size_of(images, row, config.upright) for row in sorted(wanted)}
    lost = Counter(names[item.row] for item in items if not sizes[item.row])
    kept = [item for item in items if sizes[item.row]]
    boxes = np.array([item.box for item in kept], np.float64).reshape(-1, 4)
    if config.box_form == "xywh":
        boxes[:, 2:] += boxes[:, :2]
    boxes = boxes[:, [1, 0, 3, 2]]
    if not config.fractions:
        extents = np.array([sizes[item.row] for item in kept], np.float64).reshape(-1, 2)
        boxes = boxes / np.tile(extents, 2)
    return collect(
        names,
        np.array([item.row for item in kept], np.int64),
        boxes,
        np.array([position[item.label] for item in kept], np.int32),
        np.array([item.crowd for item in kept], bool),
        np.array([item.area for item in kept]),
        lambda number: kept[number].place,
        {name: {WITHOUT_IMAGE: count} for name, count in lost.items()},
        frames=make_frames(np.zeros([len(names), 2]), config.upright),
    )


def size_of(images: Images, row: int, upright: bool) -> tuple[int, int] | None:
    """Return height and width of a row's image; None if its header can't be read."""
    try:
        with Image.open(io.BytesIO(images.read(row))) as image:
            height, width = image.height, image.width
            turned = image.getexif().get(_ORIENTATION) in _ON_THEIR_SIDE
    except (DataError, UnidentifiedImageError, OSError, ValueError):
        return None
    return (width, height) if upright and turned else (height, width)


def _reader(images: Images) -> Reader:
    def read_record(record: tf.Tensor) -> Example:
        return {"bytes": read_in_python(images.read, record)}

    return read_record


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)
