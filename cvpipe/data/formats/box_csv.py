"""Tables of objects, as in TensorFlow's tutorials, from Roboflow, and in Open Images."""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from cvpipe.data.formats.found import ANNOTATED, DETECTION, Found, Place, one_a_split, some
from cvpipe.data.sources.image_paths import find_image
from cvpipe.errors import counted


class _Dialect(NamedTuple):
    """Headings of a kind of table."""

    path: str
    label: str
    box: tuple[str, str, str, str]
    more: dict[str, Any]


_DIALECTS = (
    _Dialect("filename", "class", ("xmin", "ymin", "xmax", "ymax"), {}),
    _Dialect(
        "ImageID",
        "LabelName",
        ("XMin", "YMin", "XMax", "YMax"),
        {"fractions": True, "crowd_column": "IsGroupOf"},
    ),
    _Dialect("image", "label", ("xmin", "ymin", "xmax", "ymax"), {}),
)
_NAMES = "class-descriptions"


def find(place: Place) -> Iterator[Found]:
    """Yield tables of boxes."""
    files: dict[str, tuple[_Dialect, int]] = {}
    last: dict[str, list[str]] = {**place.by_last, **place.by_stem}
    for name in place.ending(".csv"):
        rows = list(csv.reader(io.StringIO(place.text(name) or "")))
        headings = [heading.strip() for heading in rows[0]] if rows else []
        dialect = next((d for d in _DIALECTS if {d.path, d.label, *d.box} <= set(headings)), None)
        if dialect is None or len(rows) < 2:
            continue
        at = headings.index(dialect.path)
        paths = list(dict.fromkeys(row[at] for row in rows[1:] if len(row) > at))
        home = posixpath.dirname(name)
        if any(find_image(place.files, path, home, last) for path in some(paths)):
            files[name] = (dialect, len(paths))
        else:
            place.near.append(
                f"{name} has boxes of {counted(len(paths), 'image')} such as {paths[0]}, but none"
                " of those looked up exists"
            )
    if not files:
        return
    splits = one_a_split(place, list(files), "tables of objects")
    dialect = files[splits["train"]][0]
    source: dict[str, Any] = {"kind": "box_csv", "path": place.path}
    source |= {split: place.key(name) for split, name in splits.items()}
    if dialect is not _DIALECTS[0]:
        source |= {"path_column": dialect.path, "label_column": dialect.label}
        source |= {"box_columns": list(dialect.box), **dialect.more}
    names = [n for n in place.ending(".csv") if PurePosixPath(n).name.startswith(_NAMES)]
    if names:
        source["names"] = place.key(names[0])
    number = sum(count for _, count in files.values())
    why = f"{' and '.join(map(place.key, files))} has boxes of {counted(number, 'image')}"
    yield Found(DETECTION, source, why, ANNOTATED)
