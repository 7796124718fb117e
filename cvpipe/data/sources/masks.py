"""Images with masks. A mask is an image whose pixels are classes. A mask has the name of its image,
apart from the extension and an optional suffix.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from cvpipe.config.mask_sources import MaskFolders, Masks
from cvpipe.data.annotations.mask import mask_in_python
from cvpipe.data.example import Example
from cvpipe.data.sources.constructors import segmentation_source
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.folder import by_stem
from cvpipe.data.sources.mask_inspection import refuse_unknown_values
from cvpipe.data.sources.mask_values import (
    MaskValues,
    labels_of,
    values_of_colors,
    values_of_indices,
)
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.splits import warn_of_leaks
from cvpipe.errors import DataError, counted

log = logging.getLogger(__name__)

_SHOWN = 3


class _Pair(NamedTuple):
    image: str
    mask: str


def masks(config: Masks) -> dict[str, Source]:
    """Return the splits that have folders. Files are read on demand.

    An image without a mask, or a mask without an image, is left out with a warning. Some masks are
    inspected here, so that unknown values stop a run before it starts; an unknown value in another
    mask makes it a bad record.

    Raises:
        DataError: no image has a mask, or masks have values or colors that no class has.
    """
    folders = {"train": config.train, "validation": config.validation, "test": config.test}
    every = [folder for given in folders.values() for folder in given]
    files = open_files(
        config.path, [path for folder in every for path in (folder.images, folder.masks)]
    )
    pairs = {
        split: [pair for folder in given for pair in _pairs(files, folder)]
        for split, given in folders.items()
        if given
    }
    names = tuple(known.name for known in config.classes)
    known = (
        values_of_colors(config)
        if config.by_color
        else values_of_indices(names, config.ignore_indices)
    )
    drawn = [pair.mask for found in pairs.values() for pair in found]
    refuse_unknown_values(
        len(drawn),
        lambda number: files.read(drawn[number]),
        lambda number: files.locate(drawn[number]),
        known,
    )
    warn_of_leaks(
        config.path, {split: [pair.image for pair in found] for split, found in pairs.items()}
    )
    return {split: _source(files, found, names, known) for split, found in pairs.items()}


def _pairs(files: Files, folders: MaskFolders) -> list[_Pair]:
    images_in, masks_in = files.folder(folders.images), files.folder(folders.masks)
    there = files.names()
    images = by_stem(there, images_in)
    found = by_stem(there, masks_in, folders.mask_suffix)
    if images_in == masks_in:
        images = {stem: name for stem, name in images.items() if name not in found.values()}
    both = sorted(images.keys() & found.keys())
    if not both:
        seen = f"found {counted(len(images), 'image')} and {counted(len(found), 'mask')}"
        raise DataError(
            f"{files.locate(folders.images)}: no image has a mask of the same name in"
            f" {files.locate(folders.masks)} ({seen}); {_advice(images, found)}"
        )
    for these, others, what, lacking in (
        (images, found, "image", "mask"),
        (found, images, "mask", "image"),
    ):
        alone = [these[stem] for stem in sorted(these.keys() - others.keys())]
        if alone:
            shown = ", ".join(alone[:_SHOWN])
            log.warning(
                "%s: left out %s without %s, such as %s",
                files.path,
                counted(len(alone), what),
                "an image" if lacking == "image" else "a mask",
                shown,
            )
    return [_Pair(images[stem], found[stem]) for stem in both]


def _advice(images: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Return advice for data in which no mask has an image's name."""
    suffixes = Counter(
        mask[len(stem) :]
        for mask in found
        for stem in (mask[:end] for end in range(1, len(mask)))
        if stem in images
    )
    if not suffixes:
        return "set `images` and `masks` in data.source to the folders of the images and masks"
    [(suffix, count)] = suffixes.most_common(1)
    return (
        f"the image's name is followed by '{suffix}' in {counted(count, 'mask name')}; set"
        f" mask_suffix: {suffix} beside `images` and `masks` in data.source"
    )


def _source(
    files: Files, pairs: Sequence[_Pair], classes: tuple[str, ...], known: MaskValues
) -> Source:
    images = [pair.image for pair in pairs]
    read_image, read_mask = files.reader(images), files.reader([pair.mask for pair in pairs])

    def read_record(record: tf.Tensor) -> Example:
        mask = mask_in_python(lambda encoded: labels_of(encoded, known), read_mask(record)["bytes"])
        return {**read_image(record), "mask": mask}

    return segmentation_source(classes, len(pairs), read_record, images.__getitem__, files.locate)
