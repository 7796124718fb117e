"""Pascal VOC's layout (Everingham et al. 2010): an XML file of objects per image, and lists of the
images of each split.

Pixels count from 1 there, and a box holds its last pixel: from xmin = 1 to xmax = W it is the whole
image. So it begins at xmin − 1 and ends at xmax; `one_based: false` takes both as they are. Objects
marked difficult become crowd: neither learned nor scored.
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import tensorflow as tf

from cvpipe.config.data import Voc
from cvpipe.data.decode import FORMATS, decode_image
from cvpipe.data.sources.constructors import detection_source
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.folder import by_stem
from cvpipe.data.sources.objects import WITHOUT_IMAGE, collect
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.splits import warn_of_leaks
from cvpipe.errors import DataError, suggest

log = logging.getLogger(__name__)

# Split → what its list is called.
LISTS = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}


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
    files = open_files(config.path)
    there = set(files.names())
    images = by_stem(there, _inside(config, config.images))
    splits = {
        split: [_image(files, stem, images, config) for stem in stems]
        for split, stems in _stems(files, there, images, config).items()
    }
    every = [image for split in splits.values() for image in split]
    if not any(image.name in there for image in every):
        raise DataError(
            f"{files.locate(_inside(config, config.images))}: none of the {len(every)} annotated"
            " images is there; set data.source.images to their folder"
        )
    classes = config.classes or tuple(
        sorted({item.name for image in every for item in image.objects})
    )
    warn_of_leaks(
        config.path, {split: [image.name for image in found] for split, found in splits.items()}
    )
    return {split: _source(files, found, classes) for split, found in splits.items()}


def _inside(config: Voc, folder: str) -> str:
    return posixpath.normpath(posixpath.join(config.root, folder))


def _stems(
    files: Files, there: set[str], images: Mapping[str, str], config: Voc
) -> dict[str, list[str]]:
    """The names without extension of each split's images."""
    lists = {
        split: posixpath.join(_inside(config, config.lists), name) for split, name in LISTS.items()
    }
    present = {split: name for split, name in lists.items() if name in there}
    if not present:
        folder = _inside(config, config.annotations)
        stems = [
            PurePosixPath(name).stem
            for name in sorted(there)
            if posixpath.dirname(name) == folder and name.endswith(".xml")
        ]
        if not stems:
            raise DataError(
                f"{files.locate(folder)}: no XML file there; set data.source.root and"
                " data.source.annotations"
            )
        if others := sorted(set(images) - set(stems)):
            log.warning(
                "%s: %d images have no annotations and are left out, such as %s",
                config.path,
                len(others),
                images[others[0]],
            )
        return {"all": stems}
    if "train" not in present:
        raise DataError(
            f"{files.locate(lists['train'])}: no such list, but there is"
            f" {', '.join(present.values())}; add it, or set data.source.lists to a folder without"
            " any to have splits made"
        )
    return {split: _listed(files, name) for split, name in present.items()}


def _listed(files: Files, name: str) -> list[str]:
    # The lists of single classes have 1 or -1 behind each name.
    stems = [
        line.split()[0]
        for line in files.read(name).decode("utf-8-sig", "replace").splitlines()
        if line.strip()
    ]
    if not stems:
        raise DataError(
            f"{files.locate(name)}: the list is empty; add names of images, or remove it"
        )
    if again := len(stems) - len(set(stems)):
        log.warning(
            "%s: %d of %d lines name an image that an earlier line names; they are left out",
            files.locate(name),
            again,
            len(stems),
        )
    return list(dict.fromkeys(stems))


def _image(files: Files, stem: str, images: Mapping[str, str], config: Voc) -> _Image:
    annotations = posixpath.join(_inside(config, config.annotations), f"{stem}.xml")
    place = files.locate(annotations)
    try:
        tree = ElementTree.fromstring(files.read(annotations))
    except ElementTree.ParseError as error:
        raise DataError(f"{place}: no XML ({error}); mend the file") from None
    objects = [
        _object(element, f"{place}: object {number + 1}", config)
        for number, element in enumerate(tree.findall("object"))
    ]
    if stem not in images:
        missing = posixpath.join(
            _inside(config, config.images), tree.findtext("filename") or f"{stem}.jpg"
        )
        return _Image(missing, annotations, None, objects)
    return _Image(
        images[stem],
        annotations,
        _extent(tree, place) or _stored_extent(files.read(images[stem])),
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
