"""Pascal VOC's layout (Everingham et al. 2010): an XML file of objects per image, and lists of the
images of each split.

Pixels count from 1 there, and a box holds its last pixel: from xmin = 1 to xmax = W it is the whole
image. So it begins at xmin − 1 and ends at xmax; `one_based: false` takes both as they are. Objects
marked difficult become crowd: neither learned nor scored.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import tensorflow as tf

from cvpipe.config.data import Voc
from cvpipe.data.decode import FORMATS, decode_image
from cvpipe.data.sources.constructors import detection_source
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.objects import WITHOUT_IMAGE, collect
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.splits import warn_of_leaks
from cvpipe.data.sources.voc_layout import Pair, voc_pairs
from cvpipe.data.sources.voc_xml import parse_xml
from cvpipe.errors import DataError, suggest


class _Object(NamedTuple):
    place: str
    name: str
    corners: tuple[float, ...]
    """ymin, xmin, ymax, xmax in pixels, counted from 0, to where the box ends."""
    difficult: bool


class _Image(NamedTuple):
    name: str
    annotations: str
    extent: tuple[float, float] | None
    """Height and width in pixels; None where the file is missing or can't be read."""
    objects: list[_Object]


def voc(config: Voc) -> dict[str, Source]:
    """The splits that have lists, or one named "all"; records hold the images' bytes, unread until
    they are asked for.

    An image that is missing stays a record, a bad one; its objects are left out and counted.

    Raises:
        DataError: a list or an annotation is missing or damaged, no image is there, a number is
            none, or a class is unknown.
    """
    files = open_files(config.path, config.inside)
    pairs = voc_pairs(files, config)
    splits = {
        split: [_image(files, pair, config) for pair in found] for split, found in pairs.items()
    }
    every = [image for split in splits.values() for image in split]
    for split, found in pairs.items():
        if not any(pair.has_image for pair in found):
            of = "" if split == "all" else f" of the {split} split"
            raise DataError(
                f"{files.locate(posixpath.dirname(found[0].image))}: none of the {len(found)}"
                f" annotated images{of} is there; set data.source.images to their folder"
            )
    classes = config.classes or tuple(
        sorted({item.name for image in every for item in image.objects})
    )
    warn_of_leaks(
        config.path, {split: [image.name for image in found] for split, found in splits.items()}
    )
    return {split: _source(files, found, classes) for split, found in splits.items()}


def _image(files: Files, pair: Pair, config: Voc) -> _Image:
    place = files.locate(pair.annotations)
    tree = parse_xml(files.read(pair.annotations), place)
    objects = [
        _object(element, f"{place}: object {number + 1}", config)
        for number, element in enumerate(tree.findall("object"))
    ]
    if not pair.has_image:
        return _Image(pair.image, pair.annotations, None, objects)
    return _Image(
        pair.image,
        pair.annotations,
        _extent(tree, place) or _stored_extent(files.read(pair.image)),
        objects,
    )


def _object(element: ElementTree.Element, place: str, config: Voc) -> _Object:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise DataError(f"{place} has no name; add it, or remove the object")
    place = f"{place} ({name})"
    ymin, xmin, ymax, xmax = (
        _number(element, f"bndbox/{corner}", place) for corner in ("ymin", "xmin", "ymax", "xmax")
    )
    # A box that ends where it begins is a stray click, no object of one pixel.
    if config.one_based and xmin < xmax and ymin < ymax:
        ymin, xmin = ymin - 1, xmin - 1
    return _Object(
        place, name, (ymin, xmin, ymax, xmax), (element.findtext("difficult") or "").strip() == "1"
    )


def _number(element: ElementTree.Element, path: str, place: str) -> float:
    text = (element.findtext(path) or "").strip()
    try:
        return float(text)
    except ValueError:
        raise DataError(
            f"{place}: {path} is '{text}', which is no number; mend or remove the object"
        ) from None


def _extent(tree: ElementTree.Element, place: str) -> tuple[float, float] | None:
    """Height and width that the annotations say; None where they say none, or 0."""
    if not (tree.findtext("size/height") and tree.findtext("size/width")):
        return None
    height, width = (_number(tree, f"size/{side}", place) for side in ("height", "width"))
    return (height, width) if height > 0 and width > 0 else None


def _stored_extent(encoded: bytes) -> tuple[float, float] | None:
    """Height and width of an image as it is stored; None where it can't be read."""
    try:
        # Not decoded, which would turn it upright.
        is_jpeg = encoded.startswith(FORMATS["JPEG"])
        shape = (
            tf.io.extract_jpeg_shape(encoded).numpy()
            if is_jpeg
            else decode_image(tf.constant(encoded), 1).shape
        )
    except tf.errors.InvalidArgumentError:
        return None
    return float(shape[0]), float(shape[1])


def _source(files: Files, images: Sequence[_Image], classes: tuple[str, ...]) -> Source:
    known = {name: label for label, name in enumerate(classes)}
    rows = [
        (record, image, item)
        for record, image in enumerate(images)
        for item in image.objects
        if image.extent
    ]
    if unknown := next(
        (item for image in images for item in image.objects if item.name not in known), None
    ):
        raise DataError(
            f"{unknown.place}: data.source.classes has no class '{unknown.name}';"
            f" {suggest(unknown.name, classes)}"
        )
    extents = np.array([image.extent for _, image, _ in rows]).reshape(-1, 2)
    boxes = collect(
        [image.annotations for image in images],
        np.array([record for record, _, _ in rows], np.int64),
        np.array([item.corners for _, _, item in rows]).reshape(-1, 4) / np.tile(extents, 2),
        np.array([known[item.name] for _, _, item in rows], np.int32),
        np.array([item.difficult for _, _, item in rows], bool),
        np.full(len(rows), -1.0),
        lambda row: rows[row][2].place,
        {
            image.annotations: {WITHOUT_IMAGE: len(image.objects)}
            for image in images
            if image.objects and not image.extent
        },
    )
    names = [image.name for image in images]
    return detection_source(classes, boxes, files.reader(names), names.__getitem__, files.locate)
