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
from cvpipe.data.annotations.frame import Frames, make_frames
from cvpipe.data.decode import upright_extent
from cvpipe.data.exif import stored_orientation
from cvpipe.data.orientation import turns
from cvpipe.data.sources.constructors import detection_source
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.flags import flag_of_text
from cvpipe.data.sources.folder import by_stem
from cvpipe.data.sources.objects import WITHOUT_IMAGE, collect
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.splits import warn_of_leaks
from cvpipe.errors import DataError, suggest

log = logging.getLogger(__name__)

# Split → what its list is called.
LISTS = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}
# Elements that hold places of objects, in formats with the same root.
_OF_OBJECTS = ("object", "bndbox", "box", "polygon", "points", "xmin")


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
    """Height and width in pixels, of which coordinates are a part; None where the file is missing
    or can't be read.
    """
    is_stated: bool
    """True if the annotations state the extent."""
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
    return {split: _source(files, found, classes, config) for split, found in splits.items()}


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
    _check_format(tree, place)
    objects = [
        _object(element, f"{place}: object {number + 1}", config)
        for number, element in enumerate(tree.findall("object"))
    ]
    if stem not in images:
        missing = posixpath.join(
            _inside(config, config.images), tree.findtext("filename") or f"{stem}.jpg"
        )
        return _Image(missing, annotations, None, False, objects)
    stated = _extent(tree, place)
    extent = stated or _own_extent(files.read(images[stem]), config.upright is not False)
    return _Image(images[stem], annotations, extent, stated is not None, objects)


def _check_format(tree: ElementTree.Element, place: str) -> None:
    """Refuse another format than Pascal VOC's; names lose their namespace."""
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
    if tree.tag != "annotation":
        hint = " (this may be CVAT's own format)" if tree.tag == "annotations" else ""
        raise DataError(
            f"{place}: the root is <{tree.tag}>{hint}, and in Pascal VOC it is <annotation>; export"
            " the annotations as Pascal VOC, or give another folder"
        )
    elsewhere = next((element for element in tree.iter() if element.tag in _OF_OBJECTS), None)
    if tree.find("object") is None and elsewhere is not None:
        raise DataError(
            f"{place}: has <{elsewhere.tag}>, but no <object> directly in <annotation>, where"
            " Pascal VOC has objects; export the annotations as Pascal VOC"
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
    difficult = flag_of_text(element.findtext("difficult"), place, "difficult")
    return _Object(place, name, (ymin, xmin, ymax, xmax), difficult)


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


def _own_extent(encoded: bytes, upright: bool) -> tuple[float, float] | None:
    """Height and width of an image, upright or as it is stored; None where it can't be read."""
    try:
        height, width = upright_extent(tf.constant(encoded)).numpy()
        is_turned = bool(turns(stored_orientation(tf.constant(encoded)))[0])
    except tf.errors.InvalidArgumentError:
        return None
    if is_turned and not upright:
        height, width = width, height
    return float(height), float(width)


def _frames(images: Sequence[_Image], upright: bool | None) -> Frames:
    """Frames by the stated sizes; without one, coordinates lie on the upright image."""
    sizes = [image.extent if image.extent and image.is_stated else (0, 0) for image in images]
    unclear = [not image.is_stated if upright is None else upright for image in images]
    return make_frames(np.array(sizes), np.array(unclear))


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
