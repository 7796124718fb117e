"""CVAT's own XML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cvpipe.data.formats.found import (
    ANNOTATED,
    DETECTION,
    Found,
    Place,
    one_a_split,
    some,
    split_in,
    stem,
)
from cvpipe.data.sources.voc_xml import parse_xml
from cvpipe.errors import DataError, counted

_MOST = 50


def find(place: Place) -> Iterator[Found]:
    """Yield files of "CVAT for images"."""
    files: dict[str, tuple[int, str]] = {}
    names = place.ending(".xml")
    for name in names if len(names) < _MOST else [n for n in names if stem(n) not in place.by_stem]:
        try:
            tree = parse_xml(place.files.read(name), name)
        except DataError as error:
            place.near.append(str(error))
            continue
        paths = [element.get("name", "") for element in tree.iter("image")]
        if tree.tag == "annotations" and paths:
            folder, found = place.prefix_of(some(paths), split_in(name) or "train", name)
            if found:
                files[name] = (len(paths), folder)
            else:
                place.near.append(
                    f"{name} is CVAT's XML of {counted(len(paths), 'image')} such as {paths[0]},"
                    " but none of these images exists"
                )
    if not files:
        return
    splits = one_a_split(place, list(files), "CVAT's files")
    source: dict[str, Any] = {"kind": "cvat", "path": place.path}
    source |= {split: place.key(name) for split, name in splits.items()}
    folders = {folder for _, folder in files.values()}
    if len(folders) == 1 and (key := place.key_or_nothing(folders.pop())):
        source["images"] = key
    number = sum(count for count, _ in files.values())
    why = f"{' and '.join(map(place.key, files))} has {counted(number, 'image')} in CVAT's XML"
    yield Found(DETECTION, source, why, ANNOTATED)
