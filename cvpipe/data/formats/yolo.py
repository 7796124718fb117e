"""YOLO's text files, as Ultralytics, Roboflow, CVAT and labelImg write them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from cvpipe.config.yolo import Yolo
from cvpipe.data.formats.found import ANNOTATED, DETECTION, Found, Place, some
from cvpipe.data.sources.yolo_layout import text_file_of
from cvpipe.data.sources.yolo_names import CLASS_LISTS
from cvpipe.errors import DataError, counted
from cvpipe.yaml_files import read_yaml_as_text

# Text files with these names don't list objects.
_NOTES = {*CLASS_LISTS, "train.txt", "val.txt", "valid.txt", "test.txt", "readme.txt"}


def find(place: Place) -> Iterator[Found]:
    """Yield YOLO's layout."""
    config = Yolo(kind="yolo", path=place.path)
    texts = {
        text: image
        for image in place.images
        if place.files.find(text := text_file_of(place.files, image, config))
        and PurePosixPath(text).name.lower() not in _NOTES
    }
    described, has_keypoints = _data_yaml(place)
    numbers, polygons = _classes(place, list(texts))
    if not numbers:
        if described:
            place.near.append(
                f"{described} names classes and splits as for YOLO, but no image has a text file of"
                " objects"
            )
        return
    source: dict[str, Any] = {"kind": "yolo", "path": place.path}
    remarks = list[str]()
    lists = [n for n in place.files.names() if PurePosixPath(n).name in CLASS_LISTS]
    if described:
        source["names"] = place.key(described)
    elif not lists:
        source["classes"] = [str(number) for number in range(max(numbers) + 1)]
        remarks.append(
            "No file names the classes (data.yaml, classes.txt); classes are named by their numbers"
            " unless data.source.classes names them"
        )
    if source.get("names") == config.names:
        del source["names"]
    if has_keypoints:
        remarks.append("The keypoints in the text files are left out, since only boxes are read")
    elif polygons:
        remarks.append("The polygons in the text files are read as the boxes around them")
    why = f"{counted(len(texts), 'image')} have a text file of YOLO's lines"
    why += f", and {place.key(described)} names the classes" if described else ""
    yield Found(DETECTION, source, why, ANNOTATED, tuple(remarks))


def _data_yaml(place: Place) -> tuple[str | None, bool]:
    """Return the YAML file with class names that is nearest to the top, and True if it says that
    keypoints follow the boxes.
    """
    for name in sorted(place.ending(".yaml", ".yml"), key=lambda name: (name.count("/"), name)):
        try:
            values = read_yaml_as_text(place.text(name) or "", name)
        except DataError as error:
            place.near.append(str(error))
            continue
        if isinstance(values, dict) and values.get("names"):
            return name, "kpt_shape" in values
    return None, False


def _classes(place: Place, texts: list[str]) -> tuple[set[int], bool]:
    """Return the class ids in the text files, and True if some lines are polygons; an empty set
    unless most files have YOLO's lines.
    """
    numbers, polygons, sound, looked = set[int](), False, 0, 0
    # Read all text files unless there are very many, because without class names the largest id
    # determines the number of classes.
    for name in texts if len(texts) < 20_000 else some(texts):
        lines = [line.split() for line in (place.text(name) or "").splitlines() if line.strip()]
        if not lines:
            continue
        looked += 1
        ids = [_class_of(cells) for cells in lines]
        if all(number is not None for number in ids):
            sound += 1
            numbers.update(number for number in ids if number is not None)
            polygons |= any(len(cells) > 6 and len(cells) % 2 for cells in lines)
    return (numbers, polygons) if 2 * sound > looked else (set(), False)


def _class_of(cells: list[str]) -> int | None:
    """Return the class id of a line; None if the line isn't in YOLO's format."""
    try:
        number, *values = map(float, cells)
    except ValueError:
        return None
    inside = len(values) >= 4 and all(-1 <= value <= 2 for value in values[:4])
    return int(number) if inside and number.is_integer() and number >= 0 else None
