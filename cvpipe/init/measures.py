"""Measures of a data set and of this machine, for the choice of defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.annotations.flip_pairs import Pairs
from cvpipe.data.sources.image_size import read_header
from cvpipe.data.sources.source import Source
from cvpipe.data.statistics import evenly_spaced
from cvpipe.errors import DataError
from cvpipe.models.weights.packages import has_package

# Number of images whose headers are read.
SAMPLE = 400
# Pretrained network of drafted pipelines. A package contains its weights of ImageNet.
PRETRAINED = "efficientnet_lite0"


class Measures(NamedTuple):
    """Measures of the training split, and of the machine."""

    images: Mapping[str, int]
    """Images by split."""
    classes: tuple[str, ...]
    counts: np.ndarray | None
    """int64 [K]: training images or objects of each class; None if unknown."""
    noun: str
    """Noun for `counts`: image or object."""
    extents: np.ndarray
    """int64 [S, 2]: heights and widths of a sample of upright images, in pixels."""
    is_gray: bool
    """True if all images of the sample are gray."""
    object_shares: np.ndarray
    """float64 [T, 2]: heights and widths of the sample's objects, as shares of the image."""
    object_pixels: np.ndarray
    """float64 [T, 2]: heights and widths of the sample's objects in pixels."""
    most_objects: int
    """Largest number of objects in an image of any split; 0 without objects."""
    keypoints: tuple[str, ...]
    """Names of the keypoints."""
    flip_pairs: Pairs
    """Pairs of keypoints that a mirror image swaps."""
    cores: int
    has_gpu: bool
    has_weights: bool
    """True if the weights of PRETRAINED are installed."""

    @property
    def train(self) -> int:
        """Number of training images."""
        return self.images["train"]

    @property
    def extent(self) -> tuple[int, int]:
        """Median height and width in pixels."""
        height, width = np.median(self.extents, axis=0)
        return int(height), int(width)

    @property
    def are_small(self) -> bool:
        """True if all images have one small size, as in MNIST and CIFAR."""
        return len(np.unique(self.extents, axis=0)) == 1 and int(self.extents.max()) <= 40

    @property
    def aspects_differ(self) -> bool:
        """True if the aspect ratios (width / height) differ by a factor of more than 1.5."""
        aspects = self.extents[:, 1] / self.extents[:, 0]
        low, high = np.quantile(aspects, [0.1, 0.9])
        return bool(high > 1.5 * low)


def measure(splits: Mapping[str, Source], place: str) -> Measures:
    """Measure opened splits.

    Raises:
        DataError: none of the inspected images can be read.
    """
    train = splits["train"]
    boxes = next((kind for kind in train.annotations if isinstance(kind, Boxes)), None)
    extents, shares, modes = list[tuple[int, int]](), list[np.ndarray](), set[bool]()
    pixels = list[np.ndarray]()
    for index in evenly_spaced(len(train), SAMPLE):
        try:
            extent_and_gray = _look(train.read(tf.constant(index, tf.int64)))
        except (tf.errors.OpError, DataError):
            continue  # `data check` and training name records that can't be read
        if extent_and_gray is None:
            continue
        extent, is_gray = extent_and_gray
        extents.append(extent)
        modes.add(is_gray)
        if boxes:
            rows = boxes.rows(int(train.records[index]))
            kept = boxes.boxes[rows][~boxes.crowd[rows]].astype(np.float64)
            shares.append(kept[:, 2:] - kept[:, :2])
            pixels.append(shares[-1] * extent)
    if not extents:
        raise DataError(
            f"{place}: none of the inspected images can be read; see which are broken with: cvpipe"
            " data check PIPELINE.yaml"
        )
    kind = train.annotations[0]
    none = np.zeros([0, 2])
    return Measures(
        images={name: len(split) for name, split in splits.items()},
        classes=train.classes,
        counts=kind.counts(train.records, len(train.classes)),
        noun=kind.noun,
        extents=np.array(extents),
        is_gray=modes == {True},
        object_shares=np.concatenate([none, *shares]),
        object_pixels=np.concatenate([none, *pixels]),
        most_objects=max(map(_most_objects, splits.values())),
        keypoints=train.facts.keypoint_names,
        flip_pairs=train.facts.flip_pairs,
        cores=len(os.sched_getaffinity(0)),
        has_gpu=bool(tf.config.list_physical_devices("GPU")),
        has_weights=has_package(PRETRAINED),
    )


def _look(example: Mapping[str, Any]) -> tuple[tuple[int, int], bool] | None:
    """Return an example's upright height and width, and True if gray; None if unreadable."""
    if "image" in example:
        height, width, channels = example["image"].shape
        return (height, width), channels == 1
    header = read_header(example["bytes"].numpy())
    return (header.extent, header.is_gray) if header else None


def _most_objects(source: Source) -> int:
    boxes = next((kind for kind in source.annotations if isinstance(kind, Boxes)), None)
    if boxes is None:
        return 0
    return max(
        (len(range(*boxes.rows(r).indices(len(boxes.boxes)))) for r in source.records), default=0
    )
