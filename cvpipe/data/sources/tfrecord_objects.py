"""Objects of tf.train.Examples: boxes in four features or in one, classes, flags and areas.

Dimensions: R records of a split, n objects of a record.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cvpipe.config.record_files import TfRecordBoxes
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.sources.example_classes import Classes, ExampleClass, classes_of_example
from cvpipe.data.sources.objects import collect
from cvpipe.data.sources.tf_examples import Features
from cvpipe.errors import DataError, counted

SIDES = ("ymin", "xmin", "ymax", "xmax")
FLAGS = ("is_crowd", "group_of", "difficult", "is_difficult")
"""Features beside the box that mark objects that are neither learned nor scored."""


class Objects(NamedTuple):
    """Objects of an example."""

    boxes: np.ndarray
    """float64 [n, 4], ymin, xmin, ymax, xmax as fractions of the image."""
    classes: list[ExampleClass]
    crowd: np.ndarray
    """bool [n]"""
    area: np.ndarray
    """float64 [n], −1 if unknown."""


def objects_of(
    features: Features, config: TfRecordBoxes, record: int, place: Callable[[int], str]
) -> Objects:
    """Return the objects of an example.

    Raises:
        DataError: features differ in length or aren't numbers.
    """

    def column(name: str, length: int | None = None) -> np.ndarray:
        values = features.values(name)
        if any(isinstance(value, bytes) for value in values):
            raise DataError(
                f"{place(record)}: '{name}' isn't numbers; correct or remove the example"
            )
        if length is not None and len(values) not in (0, length):
            raise DataError(
                f"{place(record)}: '{name}' has {counted(len(values), 'value')} for"
                f" {counted(length, 'object')}; correct or remove the example"
            )
        return np.array(values, np.float64)

    listed = classes_of_example(features, config.label, record, place)
    n = len(listed)
    sides = [column(f"{config.box}/{side}", n) for side in SIDES]
    whole = column(config.box)
    if all(map(len, sides)):
        boxes = np.stack(sides, 1)
    else:
        boxes = whole[: len(whole) // 4 * 4].reshape(-1, 4)
    if len(boxes) != n or len(whole) % 4:
        raise DataError(
            f"{place(record)}: {counted(n, 'class', 'classes')} and"
            f" {counted(len(boxes), 'whole box', 'whole boxes')} in '{config.box}'; correct or"
            " remove the example, or set data.source.box"
        )
    crowd, folder = np.zeros(len(boxes), bool), posixpath.dirname(config.box)
    for flag in FLAGS:
        marked = column(posixpath.join(folder, flag), len(boxes))
        crowd |= marked > 0 if len(marked) else False
    area = column(posixpath.join(folder, "area"), len(boxes))
    return Objects(boxes, listed, crowd, area if len(area) else np.full(len(boxes), -1.0))


def collect_objects(
    names: Sequence[str],
    found: Sequence[Objects | None],
    classes: Classes,
    locate: Callable[[str], str],
) -> Boxes:
    """Return the objects of all records.

    Args:
        names: [R], names of the records.
        found: [R], their objects; None for damaged records.
        classes: the classes.
        locate: maps a record's name to its full path.

    Raises:
        DataError: a class is unknown, or a coordinate isn't a finite number.
    """
    every = [objects for objects in found if objects]
    listed = [each for objects in every for each in objects.classes]
    none = np.zeros((0, 4))
    return collect(
        names,
        np.array([each.record for each in listed], np.int64),
        np.concatenate([none, *(objects.boxes for objects in every)]),
        np.array([classes.position(each) for each in listed], np.int32),
        np.concatenate([none[:, 0] > 0, *(objects.crowd for objects in every)]),
        np.concatenate([none[:, 0], *(objects.area for objects in every)]),
        lambda row: locate(names[listed[row].record]),
    )
