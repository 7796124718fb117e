"""LabelMe's JSON: one file per image, beside it, with shapes in pixels counted from 0."""

from __future__ import annotations

import logging
import math
import posixpath
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

from cvpipe.config.box_sources import LabelMe
from cvpipe.data.sources.coco_entries import read_json
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.folder import SPLITS, is_image
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.splits import check_folder_splits
from cvpipe.data.sources.tool_boxes import (
    Item,
    Labeled,
    around,
    points_of,
    split_by_folder,
    stated,
    tool_source,
)
from cvpipe.errors import DataError, counted

log = logging.getLogger(__name__)


def labelme(config: LabelMe) -> dict[str, Source]:
    """Return the splits that have folders, or one split named "all".

    Raises:
        DataError: there is no LabelMe file, a file isn't JSON, a shape lacks its label or points,
            no image exists, or a class is unknown.
    """
    files = open_files(config.path, list(SPLITS))
    image_folders = {posixpath.dirname(name) for name in files.names() if is_image(name)}
    splits: dict[str, list[Labeled]] = {}
    others = list[str]()
    for name in files.names():
        if PurePosixPath(name).suffix.lower() != ".json":
            continue
        content = read_json(files, name)
        if isinstance(content, dict) and isinstance(content.get("shapes"), list):
            image = _image(files, name, content, image_folders)
            splits.setdefault(split_by_folder(name), []).append(image)
        else:
            others.append(name)
    if not splits:
        raise DataError(f"{config.path}: no JSON file with LabelMe's shapes; give another folder")
    if others:
        log.warning(
            "%s: left out %s without LabelMe's shapes, such as %s",
            config.path,
            counted(len(others), "JSON file"),
            others[0],
        )
    check_folder_splits(config.path, {split: images[0].origin for split, images in splits.items()})
    return tool_source(files, config, splits)


def _image(
    files: Files, name: str, content: Mapping[str, Any], image_folders: Collection[str]
) -> Labeled:
    place = files.locate(name)
    path = _path(files, name, str(content.get("imagePath") or ""), image_folders)
    items = [
        _item(shape, f"{place}: shape {position + 1}")
        for position, shape in enumerate(content["shapes"])
    ]
    extent = stated(content.get("imageHeight"), content.get("imageWidth"))
    return Labeled(path, name, extent, items)


def _path(files: Files, name: str, written: str, image_folders: Collection[str]) -> str:
    """Return the path of a file's image. It is relative to the JSON file, unless that was moved."""
    # Windows writes backslashes.
    written = written.replace("\\", "/")
    folder, last = posixpath.dirname(name), posixpath.basename(written)
    path, beside = posixpath.join(folder, written), posixpath.join(folder, last)
    if files.find(path) is None:
        if PurePosixPath(last).stem == PurePosixPath(name).stem and files.find(beside):
            # Moved together with its image.
            return beside
        if written == last and folder not in image_folders:
            # Moved into a folder of JSON files; the image is found by its file name.
            return last
    return path


def _item(shape: Any, place: str) -> Item:
    label = shape.get("label") if isinstance(shape, dict) else None
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"{place} has no label; add it, or remove the shape")
    place = f"{place} ({label})"
    points = points_of(shape.get("points"), place)
    if shape.get("shape_type") == "circle" and len(points) == 2:
        (x, y), (edge_x, edge_y) = points
        radius = math.hypot(edge_x - x, edge_y - y)
        points = [(x - radius, y - radius), (x + radius, y + radius)]
    return Item(place, label.strip(), around(points))
