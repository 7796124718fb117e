"""Interface of a kind of annotation: every method that the rest of the package calls.

A kind is a subclass of `Annotation` in its own file; `cvpipe.data.annotations` lists all kinds. An
instance annotates all records of a source: it holds arrays over the records, or nothing if the
source's `read_record` yields the annotation. Class and static methods are graph code on one
example.

An example carries all data needed to move its annotations with the image. A mirror image swaps left
and right eyes, for instance, so keypoints put their mirrored order into every example.

Dimensions: R records of a source, N of them examples, n objects in an example, K classes.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import tensorflow as tf

from cvpipe.config.augment.augmentation import Fill
from cvpipe.data.annotations.columns import Columns
from cvpipe.data.annotations.faults import Faults
from cvpipe.data.example import Example, Reader
from cvpipe.data.facts import Facts


class Change(NamedTuple):
    """An example's tensors of one kind after its image has moved."""

    tensors: Example
    """The tensors that have changed."""
    shown: tf.Tensor | None = None
    """bool [n]: False for objects that are no longer visible; None if the kind can't tell."""


class Tally:
    """Counts for `cvpipe data check`, collected while all examples are read. The base class counts
    nothing.
    """

    def add(self, measured: Mapping[str, np.ndarray], readable: np.ndarray) -> None:
        """Count a batch: the tensors of `Annotation.measure`, [B, …] each, and `readable`, bool
        [B].
        """

    def result(self) -> dict[str, Any]:
        """Return findings by name, for JSON.

        The report shows these findings, if present: "classes" ({name: count}), "imbalance" (the
        largest count over the smallest one above 0), "counted" (the unit of the imbalance, such as
        "images") and "notes" (lines of text).
        """
        return {}


class Annotation(abc.ABC):
    """One kind of annotation, for all records of a source."""

    keys: ClassVar[tuple[str, ...]]
    """Names of the kind's tensors in an example."""
    placed: ClassVar[tuple[str, ...]] = ()
    """Tensors with positions in the image, which move with it."""
    per_object: ClassVar[tuple[str, ...]] = ()
    """Tensors whose first dimension is the number of objects; they are filtered together."""
    noun: ClassVar[str] = "image"
    """Unit of `counts`."""
    unlearnable: ClassVar[str] = "nothing is annotated"
    """Reason given in the error message if `learnable` returns 0 for the training split."""
    faults: Faults = MappingProxyType({})
    """Mistakes in the annotation files."""

    # Methods on the annotation of a source.

    @abc.abstractmethod
    def digests(self, records: np.ndarray) -> list[str]:
        """Return a fingerprint for each of the records, int64 [N], without spaces."""

    @abc.abstractmethod
    def describe(self, record: int, read_record: Reader, facts: Facts) -> str:
        """Describe a record's annotation in a few words."""

    def read(self, record: tf.Tensor) -> Example:
        """Return those tensors of a record that `read_record` doesn't return. Graph code."""
        return {}

    def counts(self, records: np.ndarray, num_classes: int) -> np.ndarray | None:
        """Count images or objects of each class, int64 [K]; None if the kind has no classes or
        would have to read the records.
        """
        return None

    def learnable(self, records: np.ndarray, annotations: Sequence[Annotation]) -> int | None:
        """Count the annotations of records, int64 [N], that can be learned; None if the records
        would have to be read. `annotations` are all annotations of the source.
        """
        return None

    def strata(self, records: np.ndarray) -> np.ndarray:
        """Return the stratum of each example, int [N]. Each stratum is split and limited
        separately.
        """
        return np.zeros(len(records), np.int32)

    def relabel(self, position: np.ndarray) -> Annotation:
        """Replace label l by position[l], int32 [K]; −1 means that the class is left out."""
        return self

    def relabel_reader(self, read_record: Reader, position: np.ndarray) -> Reader:
        """Relabel the tensors that `read_record` returns, in the same way as `relabel`."""
        return read_record

    def stay(self, records: np.ndarray) -> np.ndarray:
        """Return bool [N]: False for examples without a class after `relabel`."""
        return np.ones(len(records), bool)

    def at_most(self, objects: int, name_record: Callable[[int], str]) -> Annotation:
        """Keep the first `objects` objects of each record, and count the others in `faults`."""
        return self

    @classmethod
    def merge_fault(cls, facts: Sequence[Facts]) -> str | None:
        """Return the reason why the annotations of sources with these facts can't be joined; None
        if they can.
        """
        return None

    @classmethod
    def mirror_fault(cls, facts: Facts) -> str | None:
        """Return the reason why the annotations of mirrored images may be wrong; None if they are
        right.
        """
        return None

    @classmethod
    @abc.abstractmethod
    def join(cls, parts: Sequence[Self], sizes: Sequence[int]) -> Annotation:
        """Return the annotation of the first `sizes` records of each part, numbered
        consecutively.
        """

    @classmethod
    @abc.abstractmethod
    def from_columns(cls, columns: Columns, facts: Facts) -> Annotation:
        """Return the annotation of packed records, given the tensors that `read` returned for
        them.
        """

    def tally(self, records: np.ndarray, facts: Facts) -> Tally:
        """Return an empty tally for `cvpipe data check`."""
        counts = self.counts(records, len(facts.class_names))
        return Tally() if counts is None else _Counted(counts, facts, self.noun)

    # Methods on the tensors of an example; called only for examples that have some of `keys`.

    @classmethod
    def is_in(cls, example: Example) -> bool:
        """Return True if the example is annotated in this way."""
        return any(key in example for key in cls.keys)

    @staticmethod
    def upright(example: Example, orientation: tf.Tensor, extent: tf.Tensor) -> Example:
        """Convert positions on the stored image to positions on the upright image.

        Args:
            example: as its source reads it.
            orientation: int32 scalar in 1…8, the Exif orientation; 1 if nothing changes.
            extent: int32 [2], height and width of the upright image.
        """
        return {}

    @staticmethod
    def image_checks(example: Example, image: Callable[[], tf.Tensor]) -> list[tf.Operation]:
        """Return assertions that the annotation fits the upright image, uint8 [H, W, C].

        Calling `image` may decode a file.
        """
        return []

    @staticmethod
    def measure(example: Example) -> Example:
        """Return tensors of fixed shapes for `Tally.add`."""
        return {}

    # Moves of the image; called only for kinds with `placed` tensors.

    @staticmethod
    def mirrored(example: Example, axis: int) -> Example:
        """Return the `placed` tensors mirrored vertically (axis 0) or horizontally (axis 1)."""
        raise NotImplementedError

    @staticmethod
    def moved(example: Example, size: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> Change:
        """Move the annotation with an image that was scaled and moved.

        Args:
            example: the example before the move.
            size: int32 [2], height and width of the image after the move.
            scale, offset: float64 [2], vertical and horizontal. The point p, in fractions of the
                old image, moves to p × scale + offset, in fractions of the new image.
        """
        raise NotImplementedError

    @staticmethod
    def warped(example: Example, transform: tf.Tensor, extent: tf.Tensor, fill: Fill) -> Change:
        """Move the annotation with an image that was warped by an affine transform, float32 [8],
        from output to input (`cvpipe.geometry.warp`). `extent` is the height and width of the
        image, int32 [2].
        """
        raise NotImplementedError

    @staticmethod
    def sampled(example: Example, y: tf.Tensor, x: tf.Tensor, fill: Fill) -> Change:
        """Move the annotation with an image that was resampled at coordinates y and x, float32 [H,
        W] each.
        """
        raise NotImplementedError


class _Counted(Tally):
    """Counts that are known before any record is read."""

    def __init__(self, counts: np.ndarray, facts: Facts, noun: str):
        self._counts, self._class_names, self._noun = counts, facts.class_names, noun

    def result(self) -> dict[str, Any]:
        return {
            "classes": dict(zip(self._class_names, self._counts.tolist(), strict=True)),
            "imbalance": imbalance(self._counts),
            "counted": f"{self._noun}s",
        }


def imbalance(counts: np.ndarray) -> float:
    """Return the largest count, of int [K], over the smallest that isn't 0; 1 if all are 0."""
    return float(counts.max() / counts[counts > 0].min()) if counts.any() else 1.0
