"""Label Studio's JSON and JSON-MIN: coordinates in percent of the image."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

from cvpipe.config.box_sources import LabelStudio
from cvpipe.data.sources.coco_entries import read_json
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.folder import is_image
from cvpipe.data.sources.image_paths import path_in
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.tool_boxes import (
    Item,
    Labeled,
    all_there,
    around,
    around_ellipse,
    number,
    points_of,
    stated,
    tool_source,
)
from cvpipe.errors import DataError, counted

log = logging.getLogger(__name__)

LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels")


def label_studio(config: LabelStudio) -> dict[str, Source]:
    """Return the split of each file, including images without regions.

    Raises:
        DataError: a file is missing or isn't Label Studio's JSON, a region is damaged, no image
            exists, or a class is unknown.
    """
    files = open_files(config.path, [*config.files.values(), config.images])
    splits = {split: _images(files, name) for split, name in all_there(files, config.files)}
    return tool_source(files, config, splits, config.images)


def image_of(task: Any) -> str | None:
    """Return the image of a task in JSON or JSON-MIN; None if it has none."""
    data = task.get("data", task) if isinstance(task, dict) else None
    if not isinstance(data, dict):
        return None
    values = [data.get("image"), data.get("img"), *data.values()]
    texts = [value for value in values if isinstance(value, str) and "." in value]
    # Without an extension, an address can't be told from a note.
    images = [text for text in texts if is_image(path_in(text))]
    return next(iter(images or texts), None)


def regions_of(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the regions of a task: those of its first annotation, or of the lists in JSON-MIN."""
    annotations = task.get("annotations", task.get("completions"))
    if isinstance(annotations, list):
        done = [a for a in annotations if isinstance(a, dict) and not a.get("was_cancelled")]
        lists = [done[0].get("result")] if done else []
    else:
        lists = list(task.values())
    return [
        row for rows in lists if isinstance(rows, list) for row in rows if isinstance(row, dict)
    ]


def _images(files: Files, name: str) -> list[Labeled]:
    place = files.locate(name)
    tasks = read_json(files, name)
    if not isinstance(tasks, list) or not tasks:
        raise DataError(f"{place}: Label Studio's JSON is a list of tasks; name another file")
    images, again = list[Labeled](), 0
    for position, task in enumerate(tasks):
        where = f"{place}: task {task.get('id', position) if isinstance(task, dict) else position}"
        path = image_of(task)
        if path is None:
            raise DataError(f"{where} has no image; remove it, or export the project again")
        again += len(task.get("annotations") or ()) > 1
        regions = regions_of(task)
        items = list(_items(regions, where))
        sizes = [stated(row.get("original_height"), row.get("original_width")) for row in regions]
        extent = next(filter(None, sizes), None)
        images.append(Labeled(path, name, extent, items, in_fractions=True))
    if again:
        log.warning(
            "%s: %s with several annotations, of which the first is read",
            place,
            counted(again, "task"),
        )
    return images


def _items(regions: list[Mapping[str, Any]], where: str) -> Iterator[Item]:
    for position, row in enumerate(regions):
        # JSON-MIN has no "value" around the numbers.
        value = row.get("value", row)
        key = next((key for key in LABELS if isinstance(value, dict) and value.get(key)), None)
        if key is None:
            continue
        labels = value[key]
        place = f"{where}: region {position + 1}"
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise DataError(f"{place}: {key} is not a list of names; correct or remove the region")
        size = stated(row.get("original_height"), row.get("original_width"))
        corners = _corners(value, size, f"{place} ({labels[0]})")
        for label in labels:
            yield Item(f"{place} ({label})", label, corners)


def _corners(
    value: Mapping[str, Any], size: tuple[float, float] | None, place: str
) -> tuple[float, float, float, float]:
    """Return the box of a region as fractions."""
    if "points" in value:
        points = points_of(value["points"], place)
    elif "radiusX" in value:
        x, y, rx, ry = (number(value, key, place) for key in ("x", "y", "radiusX", "radiusY"))
        angle = math.radians(number(value, "rotation", place)) if value.get("rotation") else 0.0
        # Rotated in pixels, as in `_turned`.
        height, width = size or (1.0, 1.0)
        box = around_ellipse((x * width, y * height), (rx * width, ry * height), angle)
        points = [(box[1] / width, box[0] / height), (box[3] / width, box[2] / height)]
    else:
        x, y, width, height = (number(value, key, place) for key in ("x", "y", "width", "height"))
        points = [(x, y), (x + width, y + height)]
        if value.get("rotation"):
            points = _turned((x, y), (width, height), number(value, "rotation", place), size)
    ymin, xmin, ymax, xmax = around([(x / 100, y / 100) for x, y in points])
    return ymin, xmin, ymax, xmax


def _turned(
    corner: tuple[float, float],
    sides: tuple[float, float],
    degrees: float,
    size: tuple[float, float] | None,
) -> list[tuple[float, float]]:
    """Return the corners, in percent, of a rectangle rotated clockwise around its top left corner.
    The rotation is computed in pixels, because a percent of the width and a percent of the height
    differ.
    """
    height, width = size or (1.0, 1.0)
    (x, y), (across, down) = corner, sides
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    steps = [(a * across * width, b * down * height) for a in (0, 1) for b in (0, 1)]
    return [
        (x + (dx * cosine - dy * sine) / width, y + (dx * sine + dy * cosine) / height)
        for dx, dy in steps
    ]
