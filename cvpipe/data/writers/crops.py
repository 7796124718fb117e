"""Crops of objects as PNG files in class folders, for a classifier."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from cvpipe.data.annotated import Annotated
from cvpipe.data.decode import decode_image
from cvpipe.data.writers.class_folders import remark_on_folders, save_in_class_folder
from cvpipe.data.writers.target import Target

HOLDS = frozenset(("boxes",))
UPRIGHT = True


def write(target: Target, images: Iterable[Annotated]) -> None:
    """Write the crops; sides are rounded outward to whole pixels."""
    found = set[int]()
    for image in images:
        objects = image.annotations.objects
        if objects is None or not len(objects.labels):
            target.lose("images without objects, which have no crops")
            continue
        try:
            pixels = decode_image(tf.constant(image.content), 3).numpy()
        except tf.errors.InvalidArgumentError:
            target.lose("images that are damaged or cut off, which have no crops")
            continue
        target.lose("objects that are crowds or difficult, left out", int(objects.crowd.sum()))
        sides = objects.boxes * np.array([*image.size, *image.size], np.float64)
        stem = posixpath.splitext(posixpath.basename(image.name))[0]
        for n, (ymin, xmin, ymax, xmax) in enumerate(sides.tolist()):
            if objects.crowd[n]:
                continue
            rows = _whole(ymin, ymax, pixels.shape[0])
            columns = _whole(xmin, xmax, pixels.shape[1])
            crop = tf.io.encode_png(pixels[rows, columns]).numpy()
            label = int(objects.labels[n])
            annotations = image.annotations._replace(label=label, objects=None, score=None)
            cut = image._replace(
                name=f"{stem}-{n + 1}.png", content=crop, annotations=annotations, file=None
            )
            found.add(save_in_class_folder(target, cut))
    if found:
        remark_on_folders(target, found)


def _whole(low: float, high: float, side: int) -> slice:
    """Return the pixels of an image's side that the interval [low, high] touches, ignoring
    rounding errors; at least one pixel.
    """
    first = min(int(np.floor(low + _ROUNDING)), side - 1)
    return slice(first, max(int(np.ceil(high - _ROUNDING)), first + 1))


_ROUNDING = 1e-3
