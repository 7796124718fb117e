"""COCO's instances as JSON (cocodataset.org/#format-data), with a file and a folder of images per
split.

Masks are run-length encoded, with one annotation for each class of an image, as in COCO-Stuff.
Pixels to ignore are written as a crowd, which readers of masks also ignore.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from cvpipe.data.annotated import Annotated, Objects, to_pixels
from cvpipe.data.annotations.flip_pairs import flip_pairs_of
from cvpipe.data.annotations.mask import BACKGROUND_NAME
from cvpipe.data.facts import Facts
from cvpipe.data.sources.coco_keypoints import FIRST_CENTER
from cvpipe.data.writers.target import SPLITS, Target
from cvpipe.geometry.masks import IGNORED

HOLDS = frozenset(("boxes", "keypoints", "masks"))
UPRIGHT = False


def write(target: Target, images: Iterable[Annotated]) -> None:
    """Write a data set; ids of images and annotations start at 1 in each split, and category ids
    follow the order of the classes.
    """
    # Collected as text, because Python's dicts would take several times the memory.
    rows: dict[str, tuple[list[str], list[str]]] = {}
    names, masked = target.facts.class_names, False
    for image in images:
        listed, annotated = rows.setdefault(image.split, ([], []))
        path = target.save_image(image, SPLITS[image.split])
        number, (height, width) = len(listed) + 1, image.size
        listed.append(
            json.dumps(
                {
                    "id": number,
                    "file_name": posixpath.basename(path),
                    "height": height,
                    "width": width,
                }
            )
        )
        masked |= image.annotations.mask is not None
        for row in _annotations(target, image):
            entry = {"id": len(annotated) + 1, "image_id": number, **row}
            annotated.append(json.dumps(entry))
    categories = json.dumps(_categories(target.facts, masked))
    stem = "person_keypoints" if target.facts.keypoint_names else "instances"
    for split, (listed, annotated) in rows.items():
        lists = {"images": _list(listed), "annotations": _list(annotated), "categories": categories}
        content = ",\n".join(f'"{key}": {text}' for key, text in lists.items())
        target.write(f"annotations/{stem}_{SPLITS[split]}.json", f"{{\n{content}\n}}\n")
    _remark_on_flip_pairs(target)
    if masked and BACKGROUND_NAME not in names:
        target.remarks.append(
            f"masks in COCO's JSON are read again with an additional first class,"
            f" '{BACKGROUND_NAME}', for pixels without an object"
        )


def _remark_on_flip_pairs(target: Target) -> None:
    names, pairs = target.facts.keypoint_names, target.facts.flip_pairs
    if set(map(frozenset, pairs)) != set(map(frozenset, flip_pairs_of(names))):
        listed = ", ".join(f"[{names[one]}, {names[other]}]" for one, other in pairs)
        target.remarks.append(
            "COCO's JSON has no pairs of keypoints that a mirrored image exchanges; set"
            f" data.source.flip_pairs: [{listed}] when you read it again"
        )


def _list(rows: list[str]) -> str:
    return "[\n" + ",\n".join(rows) + "\n]"


def _category_id(facts: Facts, label: int, masked: bool) -> int:
    """Return the id of a class: its position from 1, not counting the background of masks."""
    names = facts.class_names
    before = masked and BACKGROUND_NAME in names[:label]
    return label + (0 if before else 1)


def _categories(facts: Facts, masked: bool) -> list[dict[str, Any]]:
    points: dict[str, Any] = {}
    if facts.keypoint_names:
        lines = [[a + 1, b + 1] for a, b in facts.skeleton]
        points = {"keypoints": list(facts.keypoint_names), "skeleton": lines}
    return [
        {
            "id": _category_id(facts, label, masked),
            "name": name,
            # Empty, because a name here would be read as a category that groups other categories.
            "supercategory": "",
            **points,
        }
        for label, name in enumerate(facts.class_names)
        if not (masked and name == BACKGROUND_NAME)
    ]


def _annotations(target: Target, image: Annotated) -> Iterator[dict[str, Any]]:
    if image.annotations.objects is not None:
        yield from _objects(target, image.annotations.objects, image.size)
    if image.annotations.mask is not None:
        yield from _mask(target, image.annotations.mask)


def _objects(target: Target, objects: Objects, size: tuple[int, int]) -> Iterator[dict[str, Any]]:
    sides = to_pixels(objects.boxes, np.array([*size, *size]))
    for n, (ymin, xmin, ymax, xmax) in enumerate(sides.tolist()):
        height, width = _plain(ymax - ymin), _plain(xmax - xmin)
        known = float(objects.area[n])
        row: dict[str, Any] = {
            "category_id": _category_id(target.facts, int(objects.labels[n]), masked=False),
            "bbox": [_plain(xmin), _plain(ymin), width, height],
            "area": _plain(known) if known >= 0 else _plain(height * width),
            "iscrowd": int(objects.crowd[n]),
            "segmentation": [],
        }
        if objects.keypoints is not None and objects.visibility is not None:
            row |= _points(objects.keypoints[n], objects.visibility[n], size)
        if objects.scores is not None:
            row["score"] = round(float(objects.scores[n]), 6)
        yield row
    known_areas = int((objects.area >= 0).sum())
    target.lose("objects whose outlines are left out; the file has their areas", known_areas)
    target.lose(
        "objects that are crowds or difficult, which are both marked iscrowd",
        int(objects.crowd.sum()),
    )


def _points(places: np.ndarray, visibility: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """Return an object's points. A point that isn't annotated is three zeros."""
    pixels = to_pixels(places, np.array(size)) - FIRST_CENTER
    values = [
        [_plain(x), _plain(y), int(seen)] if seen else [0, 0, 0]
        for (y, x), seen in zip(pixels.tolist(), visibility.tolist(), strict=True)
    ]
    flat = [value for point in values for value in point]
    return {"keypoints": flat, "num_keypoints": int((visibility > 0).sum())}


def _mask(target: Target, mask: np.ndarray) -> Iterator[dict[str, Any]]:
    # Imported here, because only masks need it.
    from faster_coco_eval.core.mask import area, encode, toBbox

    names = target.facts.class_names
    for label in np.unique(mask).tolist():
        is_ignored = label == IGNORED
        if not is_ignored and names[label] == BACKGROUND_NAME:
            continue
        runs = encode(np.asfortranarray(mask == label, np.uint8))
        category = 0 if is_ignored else label
        if is_ignored and names[0] == BACKGROUND_NAME:
            category = 1
        yield {
            "category_id": _category_id(target.facts, category, masked=True),
            "segmentation": {"size": list(mask.shape), "counts": runs["counts"].decode()},
            "bbox": [float(side) for side in toBbox(runs)],
            "area": int(area(runs)),
            "iscrowd": int(is_ignored),
        }
        if is_ignored:
            target.lose("masks with pixels to ignore, written as a crowd of the first category", 1)


def _plain(value: float) -> float | int:
    """Return a number without rounding errors; an int if it is whole."""
    rounded = round(value, 8)
    return int(rounded) if rounded == int(rounded) else rounded
