"""JSON of the VGG Image Annotator: annotations or a project; pixels counted from 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from cvpipe.config.box_sources import Via
from cvpipe.data.sources.coco_entries import read_json
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.tool_boxes import (
    Item,
    Labeled,
    all_there,
    around,
    around_ellipse,
    number,
    points_of,
    tool_source,
)
from cvpipe.errors import DataError, suggest


def via(config: Via) -> dict[str, Source]:
    """Return the split of each file, including images without regions.

    Raises:
        DataError: a file is missing or isn't VIA's JSON, a region is damaged, its class is missing
            or unknown, or no image exists.
    """
    files = open_files(config.path, [*config.files.values(), config.images])
    splits = {split: _images(files, name, config) for split, name in all_there(files, config.files)}
    return tool_source(files, config, splits, config.images)


def entries_of(content: Any) -> list[dict[str, Any]] | None:
    """Return the entries of VIA's images; None if the content isn't VIA's."""
    if isinstance(content, dict):
        content = content.get("_via_img_metadata", content)
    rows = list(content.values()) if isinstance(content, dict) else []
    is_via = all(isinstance(row, dict) and {"filename", "regions"} <= row.keys() for row in rows)
    return rows if rows and is_via else None


def _images(files: Files, name: str, config: Via) -> list[Labeled]:
    place = files.locate(name)
    entries = entries_of(read_json(files, name))
    if entries is None:
        raise DataError(
            f"{place}: not VIA's JSON, whose entries have filename and regions; name another file"
        )
    regions = [_regions(entry, place) for entry in entries]
    attribute = config.attribute or _attribute(place, (row for rows in regions for row in rows))
    images = list[Labeled]()
    for entry, rows in zip(entries, regions, strict=True):
        where = f"{place}: {entry['filename']}"
        items = [
            _item(row, attribute, f"{where}: region {position + 1}")
            for position, row in enumerate(rows)
        ]
        images.append(Labeled(str(entry["filename"]), name, None, items))
    return images


def _regions(entry: Mapping[str, Any], place: str) -> list[Mapping[str, Any]]:
    """Return the regions of an image: a list, or in VIA 1 a mapping from numbers."""
    regions = entry["regions"]
    rows = list(regions.values()) if isinstance(regions, dict) else regions
    parts = ("shape_attributes", "region_attributes")
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and all(isinstance(row.get(part), dict) for part in parts)
        for row in rows
    ):
        raise DataError(
            f"{place}: {entry['filename']}: a region lacks shape_attributes or region_attributes;"
            " correct or remove it"
        )
    return rows


def _attribute(place: str, regions: Iterable[Mapping[str, Any]]) -> str:
    """Return the only attribute of the regions."""
    known = Counter(key for row in regions for key in row["region_attributes"])
    if len(known) > 1:
        raise DataError(
            f"{place}: regions have {len(known)} attributes, {', '.join(sorted(known))}; set"
            " data.source.attribute to the attribute with the class"
        )
    return next(iter(known), "")


def _item(row: Mapping[str, Any], attribute: str, place: str) -> Item:
    attributes = row["region_attributes"]
    value = attributes.get(attribute)
    if isinstance(value, dict):
        # Of checkboxes, take the first that is ticked.
        value = next((key for key, ticked in value.items() if ticked), None)
    if not isinstance(value, str) or not value.strip():
        hint = f"; {suggest(attribute, attributes)}" if attributes else ""
        raise DataError(
            f"{place} has no class in '{attribute}'; add it, or remove the region{hint}"
        )
    return Item(place, value.strip(), _corners(row["shape_attributes"], place))


def _corners(shape: Mapping[str, Any], place: str) -> tuple[float, float, float, float]:
    kind = shape.get("name")
    if kind == "rect":
        x, y, width, height = (number(shape, key, place) for key in ("x", "y", "width", "height"))
        return y, x, y + height, x + width
    if kind in ("circle", "ellipse"):
        x, y = number(shape, "cx", place), number(shape, "cy", place)
        rx, ry = (number(shape, key if key in shape else "r", place) for key in ("rx", "ry"))
        # In radians, only of ellipses.
        angle = number(shape, "theta", place) if shape.get("theta") else 0.0
        return around_ellipse((x, y), (rx, ry), angle)
    if kind in ("polygon", "polyline"):
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys):
            return around(points_of([list(pair) for pair in zip(xs, ys, strict=True)], place))
    raise DataError(
        f"{place}: the shape {kind!r} has no box; known: rect, circle, ellipse, polygon, polyline"
    )
