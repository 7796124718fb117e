"""Masks from COCO objects: polygons, and RLE as numbers or text (cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from cvpipe.geometry.masks import IGNORED

WITHOUT_OUTLINE = "without an outline, left out"
NO_POLYGON = "with a polygon that is not a list x, y, x, y, … of at least three corners, left out"
FAR_OUTSIDE = "with a polygon far outside the image, left out"
OTHER_SIZE = "with an RLE of another size than the image's, left out"
NO_RUNS = "with an RLE whose counts don't add up to the image's pixels, left out"
OUTLINE_FAULTS = (WITHOUT_OUTLINE, NO_POLYGON, FAR_OUTSIDE, OTHER_SIZE, NO_RUNS)


def paint(objects: bytes, height: int, width: int) -> np.ndarray:
    """Return the mask of a stored image.

    Larger objects are painted first, so smaller ones in front of them stay visible. Pixels covered
    only by a crowd are IGNORED.

    Args:
        objects: a JSON list of {"label", "iscrowd", "segmentation"}. Segmentations are as in COCO's
            annotations, and valid according to `outline_fault`.
        height, width: size of the image in pixels.

    Returns:
        uint8 [height, width, 1]: labels; 0 for background.
    """
    # Imported here, because only masks need it and the import takes time.
    from faster_coco_eval.core.mask import area, decode

    mask = np.zeros([height, width], np.uint8)
    rows = [(row, _runs(row["segmentation"], height, width)) for row in json.loads(objects)]
    # The sort is stable: of two objects of the same size, the later one is in front.
    for row, runs in sorted(rows, key=lambda pair: (not pair[0]["iscrowd"], -int(area(pair[1])))):
        mask[decode(runs).astype(bool)] = IGNORED if row["iscrowd"] else row["label"]
    return mask[..., np.newaxis]


def outline_fault(given: Any, height: int, width: int) -> str | None:
    """Return the fault of an annotation's segmentation; None if it is valid.

    Args:
        given: the segmentation.
        height, width: size of its image in pixels.
    """
    if isinstance(given, dict):
        return _fault_of_runs(given, height, width)
    polygons = _polygons(given) if isinstance(given, list) else []
    if not polygons:
        return WITHOUT_OUTLINE
    faults = (_fault_of_polygon(polygon, max(height, width)) for polygon in polygons)
    return next((fault for fault in faults if fault), None)


def _polygons(given: list[Any]) -> list[Any]:
    """Return the polygons of a segmentation, which is a list of polygons, perhaps with empty ones,
    or a single polygon.
    """
    if given and not any(isinstance(part, list) for part in given):
        return [given]
    return [polygon for polygon in given if polygon != []]


def _fault_of_polygon(polygon: Any, side: int) -> str | None:
    numbers = isinstance(polygon, list) and all(type(value) in (int, float) for value in polygon)
    if not numbers or len(polygon) < 6 or len(polygon) % 2:
        return NO_POLYGON
    # The library would rasterize a polygon of any extent, which takes too long. NaN fails the
    # comparison, too.
    is_near = all(-side <= value <= 2 * side for value in polygon)
    return None if is_near else FAR_OUTSIDE


def _fault_of_runs(given: Mapping[str, Any], height: int, width: int) -> str | None:
    from faster_coco_eval.core.mask import decode

    if given.get("size") != [height, width]:
        return OTHER_SIZE
    try:
        decode(_runs(given, height, width))
    # The C++ library raises various errors.
    except (ValueError, RuntimeError, TypeError, KeyError):
        return NO_RUNS
    return None


def _runs(given: Any, height: int, width: int) -> dict[str, Any]:
    """Return a segmentation as compressed RLE."""
    from faster_coco_eval.core.mask import segmToRle

    outline = _polygons(given) if isinstance(given, list) else given
    runs: dict[str, Any] = segmToRle(outline, width, height)
    return runs
