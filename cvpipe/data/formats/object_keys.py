"""Field names of labels and objects in structures, and the meaning of a box's four numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cvpipe.data.statistics import evenly_spaced

LABELS = ("label", "labels", "class", "category", "target", "fine_label", "coarse_label")
OBJECTS = ("objects", "annotations", "object")
_BOXES = ("bbox", "bboxes", "box", "boxes")
_CATEGORIES = ("category", "categories", "label", "labels", "class", "category_id", "class_id")
# Largest number of examples to inspect for the meaning of a box's four numbers.
_MOST_EXAMPLES = 200


def first_of(wanted: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the first wanted name that is known; None if no name is known."""
    return next((name for name in wanted if name in known), None)


def object_keys(
    rows: Sequence[Any], size_of: Callable[[int], tuple[int, int] | None]
) -> dict[str, Any] | None:
    """Return the keys for the fields of an object; None if it has no box or no class.

    Args:
        rows: objects of each row: a list of structures, or a structure of lists.
        size_of: maps a row to height and width of its upright image; None if it can't be read.
    """
    fields = list(dict.fromkeys(key for row in rows for key in _fields(row)))
    box, label = first_of(_BOXES, fields), first_of(_CATEGORIES, fields)
    if not box or not label:
        return None
    keys: dict[str, Any] = {}
    if box != "bbox":
        keys["box"] = box
    if label != "category":
        keys["label"] = label
    return {**keys, **_form(rows, size_of, box)}


def _fields(row: Any) -> list[str]:
    if isinstance(row, dict):
        return list(row)
    return list(row[0]) if isinstance(row, list) and row and isinstance(row[0], dict) else []


def _form(
    rows: Sequence[Any], size_of: Callable[[int], tuple[int, int] | None], box: str
) -> dict[str, Any]:
    """Return the keys for the meaning of a box's four numbers.

    The last two are taken for width and height. They are taken for right and bottom if more than
    10% of the boxes would otherwise extend beyond their images, and if they exceed left and top in
    more than 90% of the boxes.
    """
    with_boxes = [number for number, row in enumerate(rows) if _boxes(row, box)]
    found = [
        (given, size)
        for at in evenly_spaced(len(with_boxes), _MOST_EXAMPLES)
        if (size := size_of(with_boxes[at]))
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
