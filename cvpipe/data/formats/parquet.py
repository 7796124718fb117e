"""Detects Parquet files with images in rows, as on public hubs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cvpipe.data.formats.found import ANNOTATED, CLASSIFICATION, DETECTION, Found, Place
from cvpipe.data.sources.parquet import size_of
from cvpipe.data.sources.parquet_rows import Images, Table, class_names, open_table
from cvpipe.data.statistics import evenly_spaced
from cvpipe.errors import DataError, counted

_LABELS = ("label", "labels", "class", "category", "target", "fine_label", "coarse_label")
_OBJECTS = ("objects", "annotations", "object")
_BOXES = ("bbox", "bboxes", "box", "boxes")
_CATEGORIES = ("category", "categories", "label", "labels", "class", "category_id", "class_id")
# Number of objects to look at to find the meaning of a box's four numbers.
_LOOKED_AT = 200


def find(place: Place) -> Iterator[Found]:
    """Yield tables with images and labels, or images and objects."""
    names = place.ending(".parquet")
    if not names:
        return
    try:
        table = open_table(place.files, names[0])
    except DataError as error:
        place.near.append(str(error))
        return
    columns = table.file.schema_arrow.names
    image = _image_column(table)
    if image is None:
        place.near.append(f"{names[0]} has no column of images, but {', '.join(columns)}")
        return
    source: dict[str, Any] = {"kind": "parquet", "path": place.path}
    if image != "image":
        source["image"] = image
    why = f"{counted(len(names), 'Parquet file')} {'has' if len(names) == 1 else 'have'} a column"
    objects = _first(_OBJECTS, columns)
    keys = _object_keys(table, image, objects) if objects else None
    if objects and keys is not None:
        own = {} if objects == "objects" else {"objects": objects}
        text = f"{why} of images and one of objects"
        yield Found(DETECTION, {**source, **own, **keys}, text, ANNOTATED)
    # Metadata of the `datasets` library has precedence over column names.
    told = [name for name in columns if class_names(table.features, name) and name not in _OBJECTS]
    label = next(iter(told), None) or _first(_LABELS, columns)
    if label:
        own = {} if label == "label" else {"label": label}
        text = f"{why} of images and '{label}', a class"
        yield Found(CLASSIFICATION, {**source, **own}, text, ANNOTATED)


def _first(wanted: Sequence[str], known: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in known), None)


def _image_column(table: Table) -> str | None:
    """Return the column `image`, or the first column of bytes or of structures with bytes."""
    fields = sorted(table.file.schema_arrow, key=lambda field: field.name not in ("image", "img"))
    for field in fields:
        text = str(field.type)
        if re.match(r"(large_)?binary$|struct<.*bytes: (large_)?binary", text):
            return str(field.name)
    return None


def _object_keys(table: Table, image: str, objects: str) -> dict[str, Any] | None:
    """Return the keys for the fields of an object; None if it has no box or no class."""
    rows = table.column(objects)
    fields = list(dict.fromkeys(key for row in rows for key in _fields(row)))
    box, label = _first(_BOXES, fields), _first(_CATEGORIES, fields)
    if not box or not label:
        return None
    keys: dict[str, Any] = {}
    if box != "bbox":
        keys["box"] = box
    if label != "category":
        keys["label"] = label
    return {**keys, **_form(table, image, rows, box)}


def _fields(row: Any) -> list[str]:
    if isinstance(row, dict):
        return list(row)
    return list(row[0]) if isinstance(row, list) and row and isinstance(row[0], dict) else []


def _form(table: Table, image: str, rows: Sequence[Any], box: str) -> dict[str, Any]:
    """Return the keys for the meaning of a box's four numbers.

    The last two are taken for width and height. They are taken for right and bottom if more than
    10% of the boxes would otherwise extend beyond their images, and over 90% of them exceed left
    and top.
    """
    images = Images([table], image, table.place)
    with_boxes = [number for number, row in enumerate(rows) if _boxes(row, box)]
    found = [
        (given, size)
        for at in evenly_spaced(len(with_boxes), _LOOKED_AT)
        if (size := size_of(images, with_boxes[at], upright=True))
        for given in _boxes(rows[with_boxes[at]], box)
    ]
    if not found:
        return {}
    boxes = np.array([given for given, _ in found], np.float64)
    sizes = np.array([(width, height) for _, (height, width) in found], np.float64)
    keys: dict[str, Any] = {}
    if (boxes >= 0).all() and (boxes <= 1).all():
        keys["fractions"], sizes = True, np.ones_like(sizes)
    # Boxes may extend slightly beyond the edge.
    leaves = (boxes[:, :2] + boxes[:, 2:] > 1.02 * sizes).any(1)
    ordered = (boxes[:, 2:] > boxes[:, :2]).all(1)
    if leaves.mean() > 0.1 and ordered.mean() > 0.9:
        keys["box_form"] = "xyxy"
    return keys


def _boxes(row: Any, box: str) -> list[list[float]]:
    """Return the boxes of a row that are four numbers."""
    if isinstance(row, Mapping):
        given = row.get(box) or []
    else:
        given = [each.get(box) for each in row or [] if isinstance(each, Mapping)]
    return [
        each
        for each in given
        if isinstance(each, list) and len(each) == 4 and all(type(v) in (int, float) for v in each)
    ]
