"""JSON files of whole projects, as Label Studio and VIA write them."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterator
from typing import Any

from cvpipe.data.formats.found import ANNOTATED, DETECTION, Found, Place, one_a_split, some, stem
from cvpipe.data.sources.image_paths import find_image
from cvpipe.errors import DataError, counted

_MOST = 50


def find_projects(
    place: Place, kind: str, tool: str, paths_in: Callable[[Any], list[str]]
) -> Iterator[Found]:
    """Yield the files of a tool.

    Args:
        place: the folder or archive.
        kind: kind of source that reads the files.
        tool: name of the tool for messages, such as "VIA's".
        paths_in: returns the image paths in a file's content; an empty list for another tool's
            file.
    """
    names = place.ending(".json")
    names = names if len(names) < _MOST else [n for n in names if stem(n) not in place.by_stem]
    paths = {name: listed for name in names if (listed := paths_in(_read(place, name)))}
    if not paths:
        return
    every = [path for listed in paths.values() for path in listed]
    if not any(
        find_image(place.files, path, posixpath.dirname(name), place.by_last)
        for name, listed in paths.items()
        for path in some(listed)
    ):
        place.near.append(
            f"{next(iter(paths))} is {tool} JSON of {counted(len(every), 'image')} such as"
            f" {every[0]}, but none of these images exists"
        )
        return
    splits = one_a_split(place, list(paths), f"{tool} files")
    source = {"kind": kind, "path": place.path}
    source |= {split: place.key(name) for split, name in splits.items()}
    why = f"{' and '.join(map(place.key, paths))} has {counted(len(every), 'image')} in"
    yield Found(DETECTION, source, f"{why} {tool} JSON", ANNOTATED)


def _read(place: Place, name: str) -> Any:
    try:
        return json.loads(place.files.read(name))
    except (ValueError, RecursionError, DataError) as error:
        place.near.append(f"{name} is not valid JSON ({error})")
        return None
