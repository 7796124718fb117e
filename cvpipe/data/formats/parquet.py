"""Parquet files with images in rows, as on public hubs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from cvpipe.data.formats.found import ANNOTATED, CLASSIFICATION, DETECTION, Found, Place
from cvpipe.data.formats.object_keys import LABELS, OBJECTS, first_of, object_keys
from cvpipe.data.sources.parquet import size_of
from cvpipe.data.sources.parquet_rows import Images, Table, class_names, open_table
from cvpipe.errors import DataError, counted


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
        place.near.append(f"{names[0]} has no column of images, only {', '.join(columns)}")
        return
    source: dict[str, Any] = {"kind": "parquet", "path": place.path}
    if image != "image":
        source["image"] = image
    why = f"{counted(len(names), 'Parquet file')} {'has' if len(names) == 1 else 'have'} a column"
    objects = first_of(OBJECTS, columns)
    keys = None
    if objects:
        images = Images([table], image, table.place)
        sizes = partial(size_of, images, upright=True)
        keys = object_keys(table.column(objects), sizes)
    if objects and keys is not None:
        key = {} if objects == "objects" else {"objects": objects}
        text = f"{why} of images and one of objects"
        yield Found(DETECTION, {**source, **key, **keys}, text, ANNOTATED)
    # Metadata of the `datasets` library has precedence over column names.
    named = [name for name in columns if class_names(table.features, name) and name not in OBJECTS]
    label = next(iter(named), None) or first_of(LABELS, columns)
    if label:
        key = {} if label == "label" else {"label": label}
        text = f"{why} of images and '{label}', a class"
        yield Found(CLASSIFICATION, {**source, **key}, text, ANNOTATED)


def _image_column(table: Table) -> str | None:
    """Return the column `image`, or the first column of bytes or of structures with bytes."""
    fields = sorted(table.file.schema_arrow, key=lambda field: field.name not in ("image", "img"))
    for field in fields:
        text = str(field.type)
        if re.match(r"(large_)?binary$|struct<.*bytes: (large_)?binary", text):
            return str(field.name)
    return None
