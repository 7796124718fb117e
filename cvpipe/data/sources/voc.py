"""Pascal VOC's layout (Everingham et al. 2010): an XML file of objects per image, and lists of the
images of each split.

Pixels are counted from 1, and a box includes its last pixel: xmin = 1 and xmax = W cover the whole
image. So a box extends from xmin − 1 to xmax; with `one_based: false`, from xmin to xmax. Objects
marked difficult become crowds, which are neither learned nor scored.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import tensorflow as tf

from cvpipe.config.voc import Voc
from cvpipe.data.annotations.frame import Frames, make_frames
from cvpipe.data.decode import upright_extent
from cvpipe.data.exif import stored_orientation
from cvpipe.data.orientation import turns
from cvpipe.data.sources.constructors import detection_source
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.flags import flag_of_text
from cvpipe.data.sources.objects import WITHOUT_IMAGE, collect
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.splits import warn_of_leaks
from cvpipe.data.sources.voc_layout import Pair, voc_pairs
from cvpipe.data.sources.voc_xml import check_format, parse_xml
from cvpipe.errors import DataError, suggest


class _Object(NamedTuple):
    place: str
    name: str
    corners: tuple[float, ...]
    """ymin, xmin, ymax, xmax of the edges in pixels, counted from 0."""
    difficult: bool


class _Image(NamedTuple):
    name: str
    annotations: str
    extent: tuple[float, float] | None
    """Height and width in pixels of the image that coordinates refer to; None if the image is
    missing, or if it is unreadable and no size is stated.
    """
    is_stated: bool
    """True if the annotations state the extent."""
    objects: list[_Object]


def voc(config: Voc) -> dict[str, Source]:
    """Return the splits, or one split named "all" if the data has no splits. Files are read on
    demand.

    A missing image is a bad record; its objects are left out and counted.

    Raises:
        DataError: a list or an annotation is missing or damaged, a split has no image, a number is
            invalid, or a class is unknown.
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
            key = f"data.source.{split}.images" if config.splits else "data.source.images"
            raise DataError(
                f"{files.locate(posixpath.dirname(found[0].image))}: none of the annotated"
                f" images{of} exists; set {key} to the folder of the images"
            )
    classes = config.classes or tuple(
        sorted({item.name for image in every for item in image.objects})
    )
    warn_of_leaks(
        config.path, {split: [image.name for image in found] for split, found in splits.items()}
    )
    return {split: _source(files, found, classes, config) for split, found in splits.items()}


def _image(files: Files, pair: Pair, config: Voc) -> _Image:
    place = files.locate(pair.annotations)
    tree = parse_xml(files.read(pair.annotations), place)
    check_format(tree, place)
    objects = [
        _object(element, f"{place}: object {number + 1}", config)
        for number, element in enumerate(tree.findall("object"))
    ]
    if not pair.has_image:
        return _Image(pair.image, pair.annotations, None, False, objects)
    stated = _extent(tree, place)
    extent = stated or _own_extent(files.read(pair.image), config.upright is not False)
    return _Image(pair.image, pair.annotations, extent, stated is not None, objects)


def _object(element: ElementTree.Element, place: str, config: Voc) -> _Object:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise DataError(f"{place} has no name; add it, or remove the object")
    place = f"{place} ({name})"
    ymin, xmin, ymax, xmax = (
        _number(element, f"bndbox/{corner}", place) for corner in ("ymin", "xmin", "ymax", "xmax")
    )
    # A box whose ends are equal stays empty: it is an accidental click, not one pixel.
    if config.one_based and xmin < xmax and ymin < ymax:
        ymin, xmin = ymin - 1, xmin - 1
    difficult = flag_of_text(element.findtext("difficult"), place, "difficult")
    return _Object(place, name, (ymin, xmin, ymax, xmax), difficult)


def _number(element: ElementTree.Element, path: str, place: str) -> float:
    text = (element.findtext(path) or "").strip()
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{place}: {path} is '{text}', not a number; correct it") from None


def _extent(tree: ElementTree.Element, place: str) -> tuple[float, float] | None:
    """Return the stated height and width; None if they are missing or 0."""
    if not (tree.findtext("size/height") and tree.findtext("size/width")):
        return None
    height, width = (_number(tree, f"size/{side}", place) for side in ("height", "width"))
    return (height, width) if height > 0 and width > 0 else None


def _own_extent(encoded: bytes, upright: bool) -> tuple[float, float] | None:
    """Return height and width of an image, upright or as stored; None if it is unreadable."""
    try:
        height, width = upright_extent(tf.constant(encoded)).numpy()
        is_turned = bool(turns(stored_orientation(tf.constant(encoded)))[0])
    except tf.errors.InvalidArgumentError:
        return None
    if is_turned and not upright:
        height, width = width, height
    return float(height), float(width)


def _frames(images: Sequence[_Image], upright: bool | None) -> Frames:
    """Return frames from the stated sizes. `upright`: True if boxes refer to upright images; None
    if they do only where no size is stated.
    """
    sizes = [image.extent if image.extent and image.is_stated else (0, 0) for image in images]
    use_upright = [not image.is_stated if upright is None else upright for image in images]
    return make_frames(np.array(sizes), np.array(use_upright))


def _source(
    files: Files, images: Sequence[_Image], classes: tuple[str, ...], config: Voc
) -> Source:
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
        frames=_frames(images, config.upright),
    )
    names = [image.name for image in images]
    return detection_source(classes, boxes, files.reader(names), names.__getitem__, files.locate)
