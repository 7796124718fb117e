"""A class for every pixel.

An example has "mask" uint8 [H, W, 1]: class ids or IGNORED. It covers the upright image. As read
from a source, it may refer to the stored image instead (`frame.py`). Moved masks are resampled with
nearest neighbor; pixels from outside the image are IGNORED.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import tensorflow as tf

from cvpipe.config.augment.augmentation import Fill
from cvpipe.data.annotations.annotation import Annotation, Change, Tally, imbalance
from cvpipe.data.annotations.columns import Columns
from cvpipe.data.annotations.faults import Faults, sum_of_faults
from cvpipe.data.annotations.frame import Frames, frames_of_columns, join_frames
from cvpipe.data.example import Example, Reader
from cvpipe.data.facts import Facts
from cvpipe.data.graph import call_python
from cvpipe.data.orientation import upright
from cvpipe.geometry.masks import IGNORED
from cvpipe.geometry.warp import sample, warp

BACKGROUND_NAME = "background"
"""Name of the first class of masks that mark objects."""
# A class that occurs in fewer images is reported as rare, regardless of its number of pixels.
FEW_IMAGES = 5
_ROUNDING = 1e-6


# Compared by identity, because == of arrays returns an array.
@dataclasses.dataclass(frozen=True, eq=False)
class Mask(Annotation):
    """Masks that `read_record` yields with the image; they aren't held in memory."""

    frames: Frames | None = None
    """Frames of the records; None if all masks cover the upright image."""
    faults: Faults = dataclasses.field(default_factory=dict)
    objects: np.ndarray | None = None
    """int [R]: number of objects painted into each mask, without crowds; None if unknown."""

    keys = ("mask",)
    placed = ("mask",)
    noun = "pixel"
    unlearnable = "no object is left (crowds are not learned), so masks show only background"

    def digests(self, records: np.ndarray) -> list[str]:
        """Return the same digest for all records, because reading all masks would take too long."""
        return ["mask"] * len(records)

    def describe(self, record: int, read_record: Reader, facts: Facts) -> str:
        mask = read_record(tf.constant(record, tf.int64))["mask"].numpy()
        pixels = np.bincount(mask.ravel(), minlength=IGNORED + 1)
        shares = [
            f"{name} {share:.1%}"
            for name, share in zip(facts.class_names, pixels / mask.size, strict=False)
            if share
        ]
        return ", ".join(shares) or "nothing"

    def learnable(self, records: np.ndarray, annotations: Sequence[Annotation]) -> int | None:
        return None if self.objects is None else int(self.objects[records].sum())

    def relabel_reader(self, read_record: Reader, position: np.ndarray) -> Reader:
        """Set pixels of classes that are left out to IGNORED."""
        if np.array_equal(position, np.arange(len(position))):
            return read_record
        table = np.full(IGNORED + 1, IGNORED, np.uint8)
        table[: len(position)] = np.where(position < 0, IGNORED, position)

        def relabeled(record: tf.Tensor) -> Example:
            example = read_record(record)
            return {**example, "mask": tf.gather(table, tf.cast(example["mask"], tf.int32))}

        return relabeled

    @classmethod
    def merge_fault(cls, facts: Sequence[Facts]) -> str | None:
        """Refuse different classes: background in one source may be a class in another."""
        for one, other in itertools.pairwise(facts):
            if odd := sorted(set(one.class_names) ^ set(other.class_names)):
                return (
                    f"the class '{odd[0]}' is in some of the merged sources' masks and not in"
                    " others, which may show it under another name; give all sources the same"
                    " classes"
                )
        return None

    @classmethod
    def join(cls, parts: Sequence[Self], sizes: Sequence[int]) -> Mask:
        counts = [part.objects for part in parts if part.objects is not None]
        firsts = [count[:size] for count, size in zip(counts, sizes, strict=False)]
        return Mask(
            join_frames([part.frames for part in parts], sizes, upright=True),
            sum_of_faults([part.faults for part in parts]),
            np.concatenate(firsts) if len(firsts) == len(parts) else None,
        )

    @classmethod
    def from_columns(cls, columns: Columns, facts: Facts) -> Mask:
        return Mask(frames_of_columns(columns))

    def read(self, record: tf.Tensor) -> Example:
        return {key: tf.gather(column, record) for key, column in self._tensors.items()}

    @functools.cached_property
    def _tensors(self) -> Example:
        # Made outside the calling graph, because all graphs share these tensors.
        with tf.init_scope():
            return self.frames.tensors() if self.frames else {}

    def tally(self, records: np.ndarray, facts: Facts) -> Tally:
        return _Pixels(facts.class_names)

    @staticmethod
    def image_checks(example: Example, image: Callable[[], tf.Tensor]) -> list[tf.Operation]:
        if "frame_size" not in example:
            return [_same_size(example["mask"], image())]
        # A mask with a stated size has that size, which `frame_check` compares with the image.
        is_stated = tf.reduce_any(example["frame_size"] > 0)
        return [_same_size(example["mask"], image(), unless=is_stated)]

    @staticmethod
    def upright(example: Example, orientation: tf.Tensor, extent: tf.Tensor) -> Example:
        """Rotate masks that refer to the stored image and resize them to the upright image; keep
        other masks.
        """
        if "frame_size" not in example:
            return {}
        mask = upright(example["mask"], orientation)
        is_same = tf.reduce_all(tf.shape(mask)[:2] == extent)
        scaled = tf.cond(
            is_same, lambda: mask, lambda: tf.image.resize(mask, extent, method="nearest")
        )
        return {"mask": tf.ensure_shape(scaled, [None, None, 1])}

    @staticmethod
    def measure(example: Example) -> Example:
        """Return "pixels", int64 [256]: the number of pixels with each label."""
        labels = tf.reshape(tf.cast(example["mask"], tf.int32), [-1])
        pixels = tf.math.bincount(
            labels, minlength=IGNORED + 1, maxlength=IGNORED + 1, dtype=tf.int64
        )
        return {"pixels": tf.ensure_shape(pixels, [IGNORED + 1])}

    @staticmethod
    def mirrored(example: Example, axis: int) -> Example:
        return {"mask": tf.reverse(example["mask"], [axis])}

    @staticmethod
    def moved(example: Example, size: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> Change:
        shown = example["mask"]
        for axis in (0, 1):
            length = tf.shape(example["mask"])[axis]
            centers = (tf.range(size[axis], dtype=tf.float64) + 0.5) / tf.cast(
                size[axis], tf.float64
            )
            places = (centers - offset[axis]) / scale[axis] * tf.cast(length, tf.float64)
            # Halfway between two pixels, as when an image is halved, the second is taken. _ROUNDING
            # compensates for rounding errors of the quotient.
            nearest = tf.cast(tf.floor(places + _ROUNDING), tf.int32)
            # One pixel of IGNORED on each side represents everything outside.
            around = tf.pad(
                shown,
                [[1, 1] if axis == side else [0, 0] for side in range(3)],
                constant_values=IGNORED,
            )
            shown = tf.gather(around, tf.clip_by_value(nearest + 1, 0, length + 1), axis=axis)
        return Change({"mask": tf.ensure_shape(shown, [None, None, 1])})

    @staticmethod
    def warped(example: Example, transform: tf.Tensor, extent: tf.Tensor, fill: Fill) -> Change:
        """Move labels with the image's pixels; a mirrored border mirrors them, too."""
        return Change({"mask": warp(example["mask"], transform, fill, IGNORED, "nearest")})

    @staticmethod
    def sampled(example: Example, y: tf.Tensor, x: tf.Tensor, fill: Fill) -> Change:
        return Change({"mask": sample(example["mask"], y, x, fill, IGNORED, "nearest")})


class _Pixels(Tally):
    """Pixels of each class in all masks, and the number of images with the class."""

    def __init__(self, class_names: tuple[str, ...]):
        self._class_names = class_names
        self._shown = np.zeros(IGNORED + 1, np.int64)
        self._pixels = np.zeros(IGNORED + 1, np.int64)
        self._images = self._unlabeled = 0

    def add(self, measured: Mapping[str, np.ndarray], readable: np.ndarray) -> None:
        pixels = measured["pixels"][readable]
        self._images += len(readable)
        self._shown += (pixels > 0).sum(0)
        self._pixels += pixels.sum(0)
        self._unlabeled += int((~pixels[:, :IGNORED].any(1)).sum())

    def result(self) -> dict[str, Any]:
        """Return the findings of `Tally.result`, and "pixels" ({name: share of all labeled
        pixels}), "ignored" (share of all pixels without a label) and "unlabeled" (number of masks
        without a label).
        """
        labeled = self._pixels[: len(self._class_names)]
        found = {
            "classes": dict(zip(self._class_names, self._shown.tolist(), strict=False)),
            "imbalance": imbalance(labeled),
            "counted": "pixels",
            "pixels": dict(
                zip(self._class_names, (labeled / max(labeled.sum(), 1)).tolist(), strict=True)
            ),
            "ignored": float(self._pixels[IGNORED] / max(self._pixels.sum(), 1)),
            "unlabeled": self._unlabeled,
        }
        return {**found, "notes": self._notes(found)}

    def _notes(self, found: Mapping[str, Any]) -> list[str]:
        shares = ", ".join(f"{name} {share:.2%}" for name, share in found["pixels"].items())
        few = [
            f"class '{name}' is in only {count} of {self._images} images: add images of it, or its"
            " score will be unreliable"
            for name, count in found["classes"].items()
            # A class that is in every image isn't rare; the split is just small.
            if 0 < count < min(FEW_IMAGES, self._images)
        ]
        empty = (
            [f"masks without any label, whose images are useless for training: {self._unlabeled:,}"]
            if self._unlabeled
            else []
        )
        return [f"pixels   {shares}; ignored {found['ignored']:.2%} of all", *few, *empty]


def mask_in_python(read: Callable[[Any], np.ndarray], value: tf.Tensor) -> tf.Tensor:
    """Call `read` from a graph. `read` returns the mask, uint8 [H, W, 1], for a record number or a
    file's bytes. The restrictions of `call_python` apply.
    """
    return call_python(read, value, tf.TensorSpec([None, None, 1], tf.uint8))


def _same_size(mask: tf.Tensor, image: tf.Tensor, unless: tf.Tensor | bool = False) -> tf.Operation:
    """Fail unless a mask [h, w, 1] has the size of its upright image [H, W, C].

    `unless` is a bool scalar: True passes all masks.
    """
    (h, w), (height, width) = (tf.unstack(tf.shape(each)[:2]) for each in (mask, image))
    on_its_side = (h == width) & (w == height) & (h != w)
    sizes = [w, "x", h, "pixels, and its image", width, "x", height]
    turned_alike = tf.debugging.Assert(
        ~on_its_side | unless, ["the mask is", *sizes, "when upright: rotate the mask, too"]
    )
    with tf.control_dependencies([turned_alike]):
        return tf.debugging.Assert((h == height) & (w == width) | unless, ["the mask is", *sizes])
