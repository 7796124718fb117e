"""The layout of MVTec AD and VisA, in a folder or a zip archive: train/good, test/good, test/DEFECT
and ground_truth/DEFECT/NAME_mask.png.
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from cvpipe.config.defect_sources import Mvtec
from cvpipe.data.annotations.mask import mask_in_python
from cvpipe.data.decode import decode_image
from cvpipe.data.example import Example
from cvpipe.data.graph import noinline_branch
from cvpipe.data.sources.defects import GOOD, defect_source
from cvpipe.data.sources.files import Files, open_files
from cvpipe.data.sources.folder import by_stem
from cvpipe.data.sources.mask_values import open_mask
from cvpipe.data.sources.source import Source
from cvpipe.data.sources.splits import warn_of_leaks
from cvpipe.errors import DataError, counted
from cvpipe.geometry.masks import IGNORED

log = logging.getLogger(__name__)
TRAIN, TEST, MASKS = "train", "test", "ground_truth"
SUFFIXES = ("_mask", "")
"""Endings of mask names in MVTec AD, and in VisA."""
_GOOD, _UNKNOWN = -1, -2
"""Values that replace a mask's position: for an image without a defect, and for a defect without a
mask.
"""


def mvtec(config: Mvtec) -> dict[str, Source]:
    """Return the splits "train" and "test". Images and masks are read when a record is read.

    A mask is 0 where there is no defect, else the position of the kind of defect among the classes.
    An image with a defect but no mask counts in image scores; its pixels are ignored.

    Raises:
        DataError: there is no normal image to train on, or no image to test on.
    """
    files = open_files(config.path, [config.root or TRAIN])
    root = files.find_folder(config.root)
    if root is None:
        raise DataError(
            f"{files.locate(config.root)}: no such folder; set data.source.root to the folder that"
            f" has {TRAIN} and {TEST}"
        )
    train, test = (posixpath.join(root, name) for name in (TRAIN, TEST))
    normal = by_stem(files.names(), posixpath.join(train, GOOD))
    if not normal:
        raise DataError(
            f"{files.locate(posixpath.join(train, GOOD))}: no image inside; put normal images there"
        )
    _warn_of_unused(files, train)
    tested = {
        kind: by_stem(files.names(), posixpath.join(test, kind)) for kind in _kinds(files, test)
    }
    tested = {kind: images for kind, images in tested.items() if images}
    if not tested:
        raise DataError(
            f"{files.locate(test)}: no image inside; put normal images into the folder {GOOD} and"
            " others into a folder for each kind of defect"
        )
    classes = (GOOD, *sorted(tested.keys() - {GOOD}))
    masks = {kind: _masks(files, root, kind, tested[kind]) for kind in classes[1:]}
    splits = {"train": {GOOD: normal}, "test": tested}
    warn_of_leaks(
        config.path,
        {
            split: [name for images in kinds.values() for name in images.values()]
            for split, kinds in splits.items()
        },
    )
    return {split: _source(files, kinds, masks, classes) for split, kinds in splits.items()}


def _kinds(files: Files, folder: str) -> list[str]:
    """Return the names of the folders in a folder."""
    return sorted(
        posixpath.basename(name)
        for name in files.listing.folders
        if name and posixpath.dirname(name) == folder
    )


def _warn_of_unused(files: Files, train: str) -> None:
    unused = [name for name in _kinds(files, train) if name != GOOD]
    if unused:
        log.warning(
            "%s: left out; of train, only the folder %s is used",
            files.locate(posixpath.join(train, unused[0])),
            GOOD,
        )


def _masks(files: Files, root: str, kind: str, images: Mapping[str, str]) -> dict[str, str]:
    """Return the masks of a kind of defect by the stems of their images."""
    folder = posixpath.join(root, MASKS, kind)
    for suffix in SUFFIXES:
        found = by_stem(files.names(), folder, suffix)
        masks = {stem: name for stem, name in found.items() if stem in images}
        if masks:
            break
    lacking = sorted(images.keys() - masks.keys())
    if lacking:
        log.warning(
            "%s: %s without a mask, such as %s; their pixels aren't scored",
            files.locate(folder),
            counted(len(lacking), "image"),
            images[lacking[0]],
        )
    return masks


def _source(
    files: Files,
    kinds: Mapping[str, Mapping[str, str]],
    masks: Mapping[str, Mapping[str, str]],
    classes: tuple[str, ...],
) -> Source:
    images: list[str] = []
    labels: list[int] = []
    positions: list[int] = []
    drawn: list[str] = []
    for label, kind in enumerate(classes):
        for stem, name in sorted(kinds.get(kind, {}).items()):
            mask = masks[kind].get(stem) if label else None
            positions.append(_GOOD if not label else _UNKNOWN if mask is None else len(drawn))
            drawn += [mask] if mask else []
            images.append(name)
            labels.append(label)
    read_image, read_mask = files.reader(images), files.reader(drawn or images[:1])
    numbers, of_record = np.array(labels, np.uint8), np.array(positions, np.int64)

    def read_record(record: tf.Tensor) -> Example:
        example, position = read_image(record), tf.gather(of_record, record)

        def read() -> tf.Tensor:
            marked = mask_in_python(_defects, read_mask(position)["bytes"])
            return marked * tf.gather(numbers, record)

        def fill() -> tf.Tensor:
            # Decode the image again to get its size.
            shown = decode_image(example["bytes"], 1)
            value = tf.where(position == _GOOD, 0, IGNORED)
            return tf.fill([*tf.unstack(tf.shape(shown)[:2]), 1], tf.cast(value, tf.uint8))

        mask = tf.cond(position >= 0, noinline_branch(read), noinline_branch(fill))
        return {**example, "mask": tf.ensure_shape(mask, [None, None, 1])}

    return defect_source(
        classes, np.array(labels, np.int32), read_record, images.__getitem__, files.locate
    )


def _defects(encoded: bytes) -> np.ndarray:
    """Decode a mask file: 1 where its pixels are above 0, uint8 [H, W, 1]. Raises DataError if it
    is damaged.
    """
    return (np.array(open_mask(encoded).convert("L")) > 0).astype(np.uint8)[..., np.newaxis]
