"""Pascal VOC's layout (Everingham et al. 2010): JPEGImages, an XML file of objects per image in
Annotations, and a list of each split in ImageSets/Main.

Pixels are counted from 1, and a box includes its last pixel.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from xml.etree import ElementTree as ET

import numpy as np

from cvpipe.data.annotated import Annotated, Objects, to_pixels
from cvpipe.data.writers.target import SPLITS, Target

HOLDS = frozenset(("boxes",))
UPRIGHT = False
# Boxes of one pixel begin and end at the same coordinate, and readers drop them as empty.
_LEAST_SIDE = 2
# Sides that move by fewer pixels than this aren't counted: these are rounding errors.
_NOTED = 0.005


def write(target: Target, images: Iterable[Annotated]) -> None:
    """Write a data set; boxes are rounded to whole pixels, and are at least two pixels wide and
    high.
    """
    lists: dict[str, list[str]] = {}
    found = set[int]()
    moved, farthest = 0, 0.0
    for image in images:
        path = target.save_image(image, "JPEGImages")
        file = posixpath.basename(path)
        stem = posixpath.splitext(file)[0]
        lists.setdefault(image.split, []).append(stem)
        objects = image.annotations.objects
        if objects is None:
            continue
        exact = to_pixels(objects.boxes, np.array([*image.size, *image.size]))
        corners = _whole(exact, image.size)
        shift = np.abs(corners - exact).max(1, initial=0)
        moved, farthest = moved + int((shift > _NOTED).sum()), max(farthest, shift.max(initial=0))
        found.update(objects.labels.tolist())
        target.write(f"Annotations/{stem}.xml", _xml(target, file, image, objects, corners))
        target.lose(
            "objects that are crowds or difficult, which are both marked difficult",
            int(objects.crowd.sum()),
        )
        if objects.scores is not None:
            target.lose("objects whose scores are left out", len(objects.scores))
    for split, stems in lists.items():
        target.write(f"ImageSets/Main/{SPLITS[split]}.txt", "\n".join(stems) + "\n")
    if moved:
        target.lose(
            f"boxes whose sides moved to whole pixels, by at most {farthest:.2f} pixels", moved
        )
    target.alphabetical(found, "the XML files")


def _whole(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return boxes, float64 [n, 4] in pixels, on whole pixels inside the image."""
    rounded = np.round(corners)
    for axis, side in enumerate(size):
        low, high = rounded[:, axis], rounded[:, axis + 2]
        least = min(_LEAST_SIDE, side)
        low[:] = np.minimum(low, side - least)
        high[:] = np.maximum(high, low + least)
    return rounded


def _xml(
    target: Target, file: str, image: Annotated, objects: Objects, corners: np.ndarray
) -> bytes:
    root = ET.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", file)
    size = ET.SubElement(root, "size")
    height, width = image.size
    for key, value in (("width", width), ("height", height), ("depth", 3)):
        _add(size, key, str(value))
    _add(root, "segmented", "0")
    for label, crowd, box in zip(
        objects.labels.tolist(), objects.crowd.tolist(), corners.astype(int).tolist(), strict=True
    ):
        item = ET.SubElement(root, "object")
        _add(item, "name", target.facts.class_names[label])
        for key in ("pose", "truncated"):
            _add(item, key, "Unspecified" if key == "pose" else "0")
        _add(item, "difficult", str(int(crowd)))
        ymin, xmin, ymax, xmax = box
        bounds = ET.SubElement(item, "bndbox")
        sides = {"xmin": xmin + 1, "ymin": ymin + 1, "xmax": xmax, "ymax": ymax}
        for key, value in sides.items():
            _add(bounds, key, str(value))
    ET.indent(root)
    return ET.tostring(root, "utf-8") + b"\n"


def _add(parent: ET.Element, tag: str, text: str) -> None:
    ET.SubElement(parent, tag).text = text
