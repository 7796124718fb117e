"""Masks from COCO objects: polygons, and RLE as numbers or text (cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.config.coco import CocoMasks
from cvpipe.data.annotations.faults import Faults
from cvpipe.data.annotations.frame import make_frames
from cvpipe.data.annotations.mask import BACKGROUND_NAME, Mask, mask_in_python
from cvpipe.data.example import Example
from cvpipe.data.header import MAX_PIXELS
from cvpipe.data.sources.coco_entries import Id, is_number
from cvpipe.data.sources.coco_instances import Instances, extent_of
from cvpipe.data.sources.constructors import segmentation_source
from cvpipe.data.sources.files import Files
from cvpipe.data.sources.flags import flag_of_json
from cvpipe.data.sources.objects import WITHOUT_IMAGE
from cvpipe.data.sources.source import Source
from cvpipe.errors import DataError
from cvpipe.geometry.masks import IGNORED

WITHOUT_OUTLINE = "without an outline, left out"
NO_POLYGON = "with a polygon that is not a list x, y, x, y, … of at least three corners, left out"
FAR_OUTSIDE = "with a polygon far outside the image, left out"
OTHER_SIZE = "with an RLE of another size than the image's, left out"
NO_RUNS = "with an RLE whose counts don't add up to the image's pixels, left out"
OUTLINE_FAULTS = (WITHOUT_OUTLINE, NO_POLYGON, FAR_OUTSIDE, OTHER_SIZE, NO_RUNS)


def paint(objects: bytes, height: int, width: int) -> np.ndarray:
    """Return the mask of a stored image.

    Larger objects are painted first, so that smaller objects in front of them stay visible. Pixels
    covered only by a crowd are IGNORED.

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
    """Return the polygons of a segmentation. A segmentation is a single polygon, or a list of
    polygons, some of which may be empty.
    """
    if given and not any(isinstance(part, list) for part in given):
        return [given]
    return [polygon for polygon in given if polygon != []]


def _fault_of_polygon(polygon: Any, side: int) -> str | None:
    numbers = isinstance(polygon, list) and all(map(is_number, polygon))
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


def masked_source(
    files: Files,
    instances: Instances,
    names: list[str],
    categories: Mapping[Id, str],
    config: CocoMasks,
) -> Source:
    """Return the source of a file's images with masks, which are painted on demand.

    Args:
        names: names of the file's images, in the file's order.
        categories: names of the classes by id, in the order of their labels, without background.

    Raises:
        DataError: the masks can't represent the categories, or an image is too large.
    """
    if BACKGROUND_NAME in categories.values():
        raise DataError(
            f"{instances.place}: a category is called '{BACKGROUND_NAME}', as is the first class of"
            " masks; rename it"
        )
    if len(categories) >= IGNORED:
        raise DataError(
            f"{instances.place}: {len(categories)} categories; masks allow {IGNORED - 1}."
            " Leave some out"
        )
    extents = [
        [int(side) for side in extent_of(files, image, name, instances.place, config) or (1, 1)]
        for image, name in zip(instances.images, names, strict=True)
    ]
    for image, (height, width) in zip(instances.images, extents, strict=True):
        if height * width > MAX_PIXELS:
            raise DataError(
                f"{instances.place}: image {image['id']} has {width} x {height} pixels, and at most"
                f" {MAX_PIXELS:,} are allowed; correct its width and height"
            )
    objects, faults = _outlines(instances, names, extents, categories)
    # Stored as text, because lists of Python numbers would take ten times the memory.
    painted = [json.dumps(rows).encode() for rows in objects]
    read_image = files.reader(names)

    def read_record(record: tf.Tensor) -> Example:
        mask = mask_in_python(lambda number: paint(painted[number], *extents[number]), record)
        return {**read_image(record), "mask": mask}

    counts = np.array([sum(not row["iscrowd"] for row in rows) for rows in objects])
    mask = Mask(make_frames(np.array(extents), bool(config.upright)), faults, counts)
    return segmentation_source(
        (BACKGROUND_NAME, *categories.values()),
        len(names),
        read_record,
        names.__getitem__,
        files.locate,
        mask,
    )


def _outlines(
    instances: Instances,
    names: Sequence[str],
    extents: Sequence[Sequence[int]],
    categories: Mapping[Id, str],
) -> tuple[list[list[dict[str, Any]]], Faults]:
    """Return the valid objects of each image for `paint`, and the faults of invalid objects."""
    record_of = {image["id"]: record for record, image in enumerate(instances.images)}
    label_of = {number: label for label, number in enumerate(categories, 1)}
    objects: list[list[dict[str, Any]]] = [[] for _ in names]
    faults: dict[str, Counter[str]] = {}
    for position, row in enumerate(instances.annotations):
        record = record_of.get(row["image_id"])
        if record is None:
            faults.setdefault(f"image {row['image_id']}", Counter())[WITHOUT_IMAGE] += 1
            continue
        if fault := outline_fault(row["segmentation"], *extents[record]):
            faults.setdefault(names[record], Counter())[fault] += 1
            continue
        objects[record].append(
            {
                "label": label_of[row["category_id"]],
                "iscrowd": flag_of_json(
                    row.get("iscrowd"), instances.place_of(position), "iscrowd"
                ),
                "segmentation": row["segmentation"],
            }
        )
    return objects, {file: dict(counts) for file, counts in faults.items()}
