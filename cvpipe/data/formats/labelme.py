"""LabelMe's JSON beside images."""

from __future__ import annotations

import json
from collections.abc import Iterator

from cvpipe.data.formats.found import ANNOTATED, DETECTION, Found, Place, some, stem
from cvpipe.errors import DataError, counted


def find(place: Place) -> Iterator[Found]:
    """Yield LabelMe's files."""
    beside = [name for name in place.ending(".json") if stem(name) in place.by_stem]
    looked = some(beside)
    sound = [name for name in looked if _is_labelme(place, name)]
    if sound and len(sound) >= 0.5 * len(looked):
        why = f"{counted(len(beside), 'image')} have a JSON file of LabelMe's shapes"
        source = {"kind": "labelme", "path": place.path}
        yield Found(DETECTION, source, why, ANNOTATED)


def _is_labelme(place: Place, name: str) -> bool:
    try:
        content = json.loads(place.files.read(name))
    except (ValueError, RecursionError, DataError) as error:
        place.near.append(f"{name} is not valid JSON ({error})")
        return False
    return isinstance(content, dict) and {"shapes", "imagePath"} <= content.keys()
