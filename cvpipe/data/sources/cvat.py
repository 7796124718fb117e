"""CVAT's XML format, "CVAT for images 1.1": pixels counted from 0."""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.etree import ElementTree

from cvpipe.config.box_sources import Cvat
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.folder import split_of
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
from cvpipe.data.sources.voc_xml import parse_xml
from cvpipe.errors import DataError


def cvat(config: Cvat) -> dict[str, Source]:
    """Return the split of each file; for a single file, its subsets named train, val and test.
    Images without objects are kept.

    Raises:
        DataError: a file is missing or isn't CVAT's XML for images, an object is damaged, no image
            exists, or a class is unknown.
    """
    files = open_files(config.path, [*config.files.values(), config.images])
    read = {split: list(_images(files, name)) for split, name in all_there(files, config.files)}
    splits = {split: [image for image, _ in images] for split, images in read.items()}
    subsets = {split_of(subset) for _, subset in read["train"]}
    if len(splits) == 1 and len(subsets) > 1 and None not in subsets and "train" in subsets:
        splits = {}
        for image, subset in read["train"]:
            splits.setdefault(str(split_of(subset)), []).append(image)
    return tool_source(files, config, splits, config.images)


def _images(files: Files, name: str) -> Iterator[tuple[Labeled, str]]:
    """Yield images, each with its subset."""
    place = files.locate(name)
    tree = parse_xml(files.read(name), place)
    if tree.tag != "annotations":
        raise DataError(
            f"{place}: the root element is <{tree.tag}>, but CVAT's is <annotations>; export the"
            " annotations as CVAT for images 1.1"
        )
    if tree.find("track") is not None:
        raise DataError(
            f"{place}: there are tracks of a video; export the annotations as CVAT for images 1.1"
        )
    for element in tree.iter("image"):
        path = element.get("name", "")
        extent = stated(element.get("height"), element.get("width"))
        items = [
            item
            for position, shape in enumerate(element)
            if (item := _item(shape, f"{place}: object {position + 1} of {path}"))
        ]
        yield Labeled(path, name, extent, items), element.get("subset", "")


def _item(shape: ElementTree.Element, place: str) -> Item | None:
    """Return an object; None for a shape without a position, such as a tag."""
    if shape.tag not in ("box", "polygon", "polyline", "points", "ellipse", "mask"):
        return None
    label = (shape.get("label") or "").strip()
    if not label:
        raise DataError(f"{place} has no label; add it, or remove the object")
    return Item(f"{place} ({label})", label, _corners(shape, f"{place} ({label})"))


def _corners(shape: ElementTree.Element, place: str) -> tuple[float, float, float, float]:
    values = dict(shape.items())
    # Boxes and ellipses are rotated around their center, by degrees, clockwise.
    angle = math.radians(number(values, "rotation", place)) if values.get("rotation") else 0.0
    if shape.tag == "ellipse":
        x, y, rx, ry = (number(values, key, place) for key in ("cx", "cy", "rx", "ry"))
        return around_ellipse((x, y), (rx, ry), angle)
    if shape.tag == "mask":
        x, y, width, height = (
            number(values, key, place) for key in ("left", "top", "width", "height")
        )
        return y, x, y + height, x + width
    if shape.tag != "box":
        pairs = [pair.split(",") for pair in values.get("points", "").split(";")]
        return around(points_of(pairs, place))
    left, top, right, bottom = (number(values, key, place) for key in ("xtl", "ytl", "xbr", "ybr"))
    if not angle:
        return top, left, bottom, right
    cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
    width, height = right - left, bottom - top
    half_x, half_y = (width * cosine + height * sine) / 2, (width * sine + height * cosine) / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return y - half_y, x - half_x, y + half_y, x + half_x
