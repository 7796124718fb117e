"""Pascal VOC's XML, beside the images (labelImg, Roboflow) or in separate folders (VOC, CVAT)."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator
from typing import Any

from cvpipe.data.formats.found import ANNOTATED, DETECTION, Found, Place, some, split_in, stem
from cvpipe.data.sources.voc_xml import parse_xml
from cvpipe.errors import DataError, counted

_NO_PAIR = "there are XML files of Pascal VOC, such as {}, but no image has the same name"


def find(place: Place) -> Iterator[Found]:
    """Yield the layout of Pascal VOC's files."""
    every = place.ending(".xml")
    names = [name for name in some(every) if _is_voc(place, name)]
    if not names:
        return
    pairs = Counter(
        (posixpath.dirname(name), posixpath.dirname(image))
        for name in every
        if (image := _image_of(place, name))
    )
    if not pairs:
        place.near.append(_NO_PAIR.format(names[0]))
        return
    source = {"kind": "voc", "path": place.path, **_layout(place, list(pairs))}
    why = f"{counted(sum(pairs.values()), 'image')} have an XML file of Pascal VOC"
    yield Found(DETECTION, source, why, ANNOTATED)


def _is_voc(place: Place, name: str) -> bool:
    try:
        return parse_xml(place.files.read(name), name).tag.rpartition("}")[2] == "annotation"
    except DataError as error:
        place.near.append(str(error))
        return False


def _image_of(place: Place, name: str) -> str | None:
    """Return the image with an XML file's name: beside it, or in the most similar folder."""
    images = place.by_stem.get(stem(name), [])
    home = posixpath.dirname(name).split("/")

    def rank(image: str) -> tuple[bool, int]:
        folder = posixpath.dirname(image).split("/")
        return folder == home, len(set(folder) & set(home))

    # VOC's masks of classes and objects have the image's name, too.
    plain = [image for image in images if "SegmentationClass" not in image.split("/")]
    plain = [image for image in plain if "SegmentationObject" not in image.split("/")]
    return max(plain, key=rank) if plain else None


def _layout(place: Place, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the keys for the folders of XML files and images, given the pairs of folders."""
    roots = {_root(annotations, images) for annotations, images in pairs}
    if len(roots) == 1 and None not in roots:
        [root] = roots
        return {"root": key} if (key := place.key_or_nothing(str(root))) else {}
    splits = {split_in(annotations): (annotations, images) for annotations, images in pairs}
    if len(splits) == len(pairs) and None not in splits and "train" in splits:
        return {
            str(split): {"images": place.key(images), "annotations": place.key(annotations)}
            for split, (annotations, images) in splits.items()
        }
    annotations = _above([annotations for annotations, _ in pairs])
    images = _above([images for _, images in pairs])
    if any(a[len(annotations) :] != i[len(images) :] for a, i in pairs):
        raise DataError(
            f"{place.path}: XML files of Pascal VOC are in {counted(len(pairs), 'folder')} that"
            f" don't mirror the folders of the images, such as {' and '.join(pairs[0])}; put each"
            " XML file beside its image"
        )
    return {"images": place.key(images), "annotations": place.key(annotations)}


def _root(annotations: str, images: str) -> str | None:
    """Return the folder that contains Annotations/ and JPEGImages/; else None."""
    above, found, below = f"/{annotations}/".partition("/Annotations/")
    other, also, same = f"/{images}/".partition("/JPEGImages/")
    is_voc = found and also and (above, below) == (other, same)
    return above.strip("/") if is_voc else None


def _above(folders: list[str]) -> str:
    return posixpath.commonpath(folders) if all(folders) else ""
