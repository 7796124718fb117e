"""COCO's objects painted into masks: polygons, and runs of pixels as numbers or as text
(cocodataset.org/#format-data).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cvpipe.errors import DataError
from cvpipe.geometry.masks import IGNORED


def paint(objects: bytes, height: int, width: int) -> np.ndarray:
    """The mask of an image as it is stored.

    Larger objects are painted first, so that smaller ones before them stay visible; what belongs to
    a crowd alone is IGNORED.

    Args:
        objects: a JSON list of {"id", "label", "iscrowd", "segmentation"}, the last as in COCO's
            annotations.
        height, width: of the image, pixels.

    Returns:
        uint8 [height, width, 1]: labels, 0 where no object is.

    Raises:
        DataError: an outline or the runs of an object make no sense.
    """
    # Here: only those who ask for masks wait for it.
    from faster_coco_eval.core.mask import area, decode

    mask = np.zeros([height, width], np.uint8)
    rows = [(row, _runs(row, height, width)) for row in json.loads(objects)]
    # Stable: of two objects of the same size the later one is in front.
    for row, runs in sorted(rows, key=lambda pair: (not pair[0]["iscrowd"], -int(area(pair[1])))):
        mask[decode(runs).astype(bool)] = IGNORED if row["iscrowd"] else row["label"]
    return mask[..., np.newaxis]


def _runs(row: Mapping[str, Any], height: int, width: int) -> dict[str, Any]:
    """An object as compressed runs."""
    from faster_coco_eval.core.mask import decode, segmToRle

    given, place = row["segmentation"], f"annotation {row['id']}"
    if not given or not isinstance(given, list | dict):
        raise DataError(f"{place} has no outline in its segmentation; draw or remove the object")
    if isinstance(given, list):
        for polygon in given:
            _check_polygon(polygon, place, max(height, width))
    if isinstance(given, dict) and given.get("size") != [height, width]:
        raise DataError(
            f"{place} has runs for the size {given.get('size')}, and its image the size"
            f" {[height, width]}; mend or remove them"
        )
    try:
        runs = segmToRle(given, width, height)
        decode(runs)
    # It is a library in C++: which error it is depends on where it noticed.
    except (ValueError, RuntimeError, TypeError, KeyError):
        raise DataError(
            f"{place} has runs of pixels that don't add up to its image; mend or remove the object"
        ) from None
    return runs


def _check_polygon(polygon: Any, place: str, side: int) -> None:
    """That it is a list x, y, x, y, … of three corners or more, not far outside the image: the
    library would go all the way there.
    """
    numbers = isinstance(polygon, list) and all(type(value) in (int, float) for value in polygon)
    if not numbers or len(polygon) < 6 or len(polygon) % 2:
        raise DataError(
            f"{place} has a polygon that is no list x, y, x, y, … of at least three corners; mend"
            " or remove it"
        )
    if not all(math.isfinite(value) and -side <= value <= 2 * side for value in polygon):
        raise DataError(
            f"{place} has a polygon that reaches far outside the image; mend or remove it"
        )
