"""Tables with a column per class: Roboflow's multi-class CSV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cvpipe.data.formats.csv import is_one_hot, read_tables
from cvpipe.data.formats.found import ANNOTATED, CLASSIFICATION, Found, Place, one_a_split
from cvpipe.errors import counted


def find(place: Place) -> Iterator[Found]:
    """Yield tables whose class columns contain only 0 and 1."""
    tables = {table.name: table for table in read_tables(place) if is_one_hot(table)}
    if not tables:
        return
    splits = one_a_split(place, list(tables), "tables of classes")
    table = tables[splits["train"]]
    source: dict[str, Any] = {"kind": "one_hot_csv", "path": place.path}
    source |= {split: place.key(name) for split, name in splits.items()}
    if table.path_at:
        source["path_column"] = table.column(table.path_at)
    number = sum(len(each.rows) for each in tables.values())
    why = f"{' and '.join(map(place.key, splits.values()))} has a column per class for"
    yield Found(CLASSIFICATION, source, f"{why} {counted(number, 'image')}", ANNOTATED)
