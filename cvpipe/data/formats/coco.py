"""COCO's JSON with boxes, outlines or keypoints, as written by COCO, CVAT, Roboflow and others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from cvpipe.data.formats.found import (
    ANNOTATED,
    DETECTION,
    POSE,
    SEGMENTATION,
    Found,
    Place,
    one_a_split,
    some,
    split_in,
    stem,
    without_split,
)
from cvpipe.errors import DataError, counted

LISTS = ("images", "annotations", "categories")


class _File(NamedTuple):
    name: str
    content: Mapping[str, Any]
    images: str
    """Folder that the image paths in the file are relative to."""


def find(place: Place) -> Iterator[Found]:
    """Yield the tasks that COCO files can be used for."""
    files = [found for name in _candidates(place) if (found := _open(place, name))]
    by_task: dict[str, list[_File]] = {}
    for each in files:
        for task in _tasks(each.content):
            by_task.setdefault(task, []).append(each)
    for task in sorted(by_task, key=(POSE, DETECTION, SEGMENTATION).index):
        family = _family(by_task[task], task)
        splits = one_a_split(place, [each.name for each in family], "COCO's instances")
        known = {each.name: each for each in family}
        source: dict[str, Any] = {"kind": "coco", "path": place.path}
        for split, name in splits.items():
            source[split] = {"annotations": place.key(name)}
            if key := place.key_or_nothing(known[name].images):
                source[split]["images"] = key
        if task == SEGMENTATION:
            source["masks"] = True
        number = sum(len(each.content["images"]) for each in family)
        names = " and ".join(place.key(each.name) for each in family)
        what = {POSE: "keypoints", DETECTION: "boxes", SEGMENTATION: "outlines"}[task]
        verb = "lists" if len(family) == 1 else "list"
        why = f"{names} {verb} {counted(number, 'image')} with {what} in COCO's JSON"
        yield Found(task, source, why, ANNOTATED)


def _candidates(place: Place) -> list[str]:
    """Return the JSON files that may be COCO's. If there are many, leave out files that are named
    like an image, because they belong to another format.
    """
    names = place.ending(".json")
    return names if len(names) < 50 else [name for name in names if stem(name) not in place.by_stem]


def _open(place: Place, name: str) -> _File | None:
    try:
        content = json.loads(place.files.read(name))
    except (ValueError, RecursionError, DataError) as error:
        place.near.append(f"{name} is not valid JSON ({error})")
        return None
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) and content[key] and isinstance(content[key][0], dict)
        for key in LISTS
    ):
        return None
    paths = [str(row.get("file_name")) for row in content["images"] if isinstance(row, dict)]
    folder, found = place.prefix_of(some(paths), split_in(name) or "train", name)
    if not found:
        place.near.append(
            f"{name} is COCO's JSON of {counted(len(paths), 'image')} such as {paths[0]}, but none"
            " of these images exists"
        )
        return None
    return _File(name, content, folder)


def _tasks(content: Mapping[str, Any]) -> Iterator[str]:
    rows = [row for row in content["annotations"] if isinstance(row, dict)]
    if any(row.get("keypoints") for row in rows) and any(
        isinstance(row, dict) and row.get("keypoints") for row in content["categories"]
    ):
        yield POSE
    if any(row.get("bbox") for row in rows):
        yield DETECTION
    # Detection is yielded first, because some tools write the four corners of a box as an outline.
    if any(_is_outline(row.get("segmentation")) for row in rows):
        yield SEGMENTATION


def _is_outline(outline: Any) -> bool:
    if isinstance(outline, dict):
        return "counts" in outline
    return isinstance(outline, list) and any(
        isinstance(polygon, list) and len(polygon) >= 6 for polygon in outline
    )


def _family(files: list[_File], task: str) -> list[_File]:
    """Return one family of files, whose names differ only in the split.

    COCO itself has several families, such as instances and keypoints.
    """
    families: dict[str, list[_File]] = {}
    for each in files:
        families.setdefault(without_split(each.name), []).append(each)
    word = "keypoints" if task == POSE else "instances"
    preferred = [
        each for each in families.values() if word in PurePosixPath(each[0].name).name.lower()
    ]
    return preferred[0] if preferred else files
