"""The contract of a kind of annotation: everything that the rest of the package asks of it.

A kind is a subclass of `Annotation` in a file of its own; `cvpipe.data.annotations` names them all.
An instance annotates all records of a source: it holds their arrays, or nothing where the source's
`read_record` yields the annotation. Class and static methods are graph code on one example.

Whatever a move needs to know is in the example: a kind whose mirror image isn't its own, such as
left and right eyes, reads the order of its mirror image into every example.

Dimensions: R records of a source, N of them examples, n objects in an example, K classes.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import tensorflow as tf

from cvpipe.config.augment import Fill
from cvpipe.data.annotations.columns import Columns
from cvpipe.data.annotations.faults import Faults
from cvpipe.data.example import Example, Reader
from cvpipe.data.facts import Facts


class Change(NamedTuple):
    """An example's tensors of one kind after its image has moved."""

    tensors: Example
    """The tensors that have changed."""
    shown: tf.Tensor | None = None
    """bool [n]: False for objects that can't be seen any more; None if the kind can't tell."""


class Tally:
    """Counts for `cvpipe data check`, gathered while all examples are read. This one finds
    nothing.
    """

    def add(self, measured: Mapping[str, np.ndarray], readable: np.ndarray) -> None:
        """Count a batch: what `Annotation.measure` gives, [B, …] each, and bool [B]."""

    def result(self) -> dict[str, Any]:
        """Return findings by name, for JSON.

        The report reads "classes" ({name: count}), "imbalance" (the largest class over the smallest
        that has any), "counted" (the noun of that, such as "images") and "notes" (lines for
        people).
        """
        return {}


class Annotation(abc.ABC):
    """One kind of annotation, for all records of a source."""

    keys: ClassVar[tuple[str, ...]]
    """Names of its tensors in an example."""
    placed: ClassVar[tuple[str, ...]] = ()
    """Tensors that have a place in the image, and so move with it."""
    per_object: ClassVar[tuple[str, ...]] = ()
    """Tensors whose first dimension counts the objects; they come and go together."""
    noun: ClassVar[str] = "image"
    """Unit of `counts`."""
    unlearnable: ClassVar[str] = "nothing is annotated"
    """Reason in the error that is raised if `learnable` counts 0 in the training split."""
    faults: Faults = MappingProxyType({})
    """Mistakes in the files."""

    # A source's annotation.

    @abc.abstractmethod
    def digests(self, records: np.ndarray) -> list[str]:
        """Return a fingerprint for each of the records, int64 [N], without spaces."""

    @abc.abstractmethod
    def describe(self, record: int, read_record: Reader, facts: Facts) -> str:
        """Say in a few words how a record is annotated."""

    def read(self, record: tf.Tensor) -> Example:
        """Return a record's tensors that `read_record` doesn't give. Graph code."""
        return {}

    def counts(self, records: np.ndarray, num_classes: int) -> np.ndarray | None:
        """Count images or objects of each class, int64 [K]; None if it doesn't know any classes, or
        would have to read the records.
        """
        return None

    def learnable(self, records: np.ndarray, annotations: Sequence[Annotation]) -> int | None:
        """Count what can be learned from the records, int64 [N]; None if that would have to be
        read. `annotations` are all of the source.
        """
        return None

    def strata(self, records: np.ndarray) -> np.ndarray:
        """Return int [N]: examples of different numbers are held out and limited separately."""
        return np.zeros(len(records), np.int32)

    def relabel(self, position: np.ndarray) -> Annotation:
        """Turn label l into position[l], int32 [K]; −1 means that the class is left out."""
        return self

    def relabel_reader(self, read_record: Reader, position: np.ndarray) -> Reader:
        """Do the same to the tensors that `read_record` gives."""
        return read_record

    def stay(self, records: np.ndarray) -> np.ndarray:
        """Return bool [N]: False for examples that have no class any more after `relabel`."""
        return np.ones(len(records), bool)

    def at_most(self, objects: int, name_record: Callable[[int], str]) -> Annotation:
        """Leave out all but the first objects of each record, and note that in `faults`."""
        return self

    @classmethod
    def merge_fault(cls, facts: Sequence[Facts]) -> str | None:
        """Say why annotations of sources with these facts can't be joined; None if they can."""
        return None

    @classmethod
    @abc.abstractmethod
    def join(cls, parts: Sequence[Self], sizes: Sequence[int]) -> Annotation:
        """Annotate the first `sizes` records of each part, numbered through."""

    @classmethod
    @abc.abstractmethod
    def from_columns(cls, columns: Columns, facts: Facts) -> Annotation:
        """Annotate the records of packed data, given the tensors that `read` gave for each."""

    def tally(self, records: np.ndarray, facts: Facts) -> Tally:
        """Return an empty tally for `cvpipe data check`."""
        counts = self.counts(records, len(facts.class_names))
        return Tally() if counts is None else _Counted(counts, facts, self.noun)

    # An example's tensors; called only for examples that have some of `keys`.

    @classmethod
    def is_in(cls, example: Example) -> bool:
        """Return True if the example is annotated in this way."""
        return any(key in example for key in cls.keys)

    @staticmethod
    def upright(example: Example, orientation: tf.Tensor, extent: tf.Tensor) -> Example:
        """Return the tensors that an Exif orientation turns, as they lie on the upright image.

        Args:
            example: as its source reads it.
            orientation: int32 scalar in 1…8, by which to turn; 1 where they lie there already.
            extent: int32 [2], height and width of the upright image.
        """
        return {}

    @staticmethod
    def image_checks(example: Example, image: Callable[[], tf.Tensor]) -> list[tf.Operation]:
        """Return assertions that the annotation fits to the image, uint8 [H, W, C], upright.

        Calling `image` may decode a file.
        """
        return []

    @staticmethod
    def measure(example: Example) -> Example:
        """Return tensors of fixed shapes for `Tally.add`."""
        return {}

    # Moves of the image; only kinds with `placed` tensors are asked.

    @staticmethod
    def mirrored(example: Example, axis: int) -> Example:
        """Return the `placed` tensors mirrored top and bottom (axis 0) or left and right (1)."""
        raise NotImplementedError

    @staticmethod
    def moved(example: Example, size: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> Change:
        """Follow an image that was scaled and moved.

        Args:
            example: as it was.
            size: int32 [2], the image's height and width now.
            scale, offset: float64 [2], down and across: what was at p is at p × scale + offset now,
                in fractions of the image then and now.
        """
        raise NotImplementedError

    @staticmethod
    def warped(example: Example, transform: tf.Tensor, extent: tf.Tensor, fill: Fill) -> Change:
        """Follow an image through an affine transform, float32 [8], from output to input; see
        `cvpipe.geometry.warp`. `extent` is int32 [2], its height and width.
        """
        raise NotImplementedError

    @staticmethod
    def sampled(example: Example, y: tf.Tensor, x: tf.Tensor, fill: Fill) -> Change:
        """Follow an image that was looked up at other places, float32 [H, W] each."""
        raise NotImplementedError


class _Counted(Tally):
    """Counts that are known before anything is read."""

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
