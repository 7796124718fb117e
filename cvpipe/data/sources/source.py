"""What every data format becomes: labelled images that can be read by index."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.data.facts import Facts
from cvpipe.data.sources.objects import COLUMNS, Objects
from cvpipe.geometry.masks import IGNORED

# What a record holds by name; images are "bytes" (scalar string, as in the file) or "image" (uint8
# [H, W, C]), and may come with their "mask" (uint8 [H, W, 1], the label of each pixel of the
# upright image).
Example = dict[str, tf.Tensor]
# Graph code: a record number (int64 scalar) to what the record holds.
Reader = Callable[[tf.Tensor], Example]
# What the first class of masks is called that mark objects.
BACKGROUND = "background"


# Two are the same only if they are one: arrays have no equality of use here, and one can be a key.
@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """One split of a data set, readable in any order.

    Dimensions: N examples, R records of the underlying files; a split is a choice of records.
    """

    classes: tuple[str, ...]
    """Class names; a label is a position in them."""
    labels: np.ndarray
    """int32 [N], a class each; where there are objects or masks, zeros: examples are held out, cut
    and limited as if of one class.
    """
    read_record: Reader
    """Graph code: a record number (int64 scalar) to its image, as "bytes" or "image", and its
    "mask" where there are masks. May fail on a bad file.
    """
    name_record: Callable[[int], str]
    """A record number to a name, the same wherever the data lies: a file's path in the data's
    folder, or a position in an archive.
    """
    locate_record: Callable[[int], str]
    """A record number to what a person would look for: the name, and where the data lies."""
    records: np.ndarray
    """int64 [N]: the record of each example."""
    objects: Objects | None = None
    """For detection: what is where in each of the R records, whichever of them are examples."""
    masks: bool = False
    """For segmentation: whether a record holds a mask beside its image."""

    def __len__(self) -> int:
        return len(self.records)

    @property
    def facts(self) -> Facts:
        """The names that labels stand for."""
        return Facts(self.classes)

    def read(self, index: tf.Tensor) -> Example:
        """Graph code: the example at `index` (int64 scalar, below N): its image and "label" (int32
        scalar).

        Where there are objects, n of them, it has no "label" but "boxes" float32 [n, 4] (ymin,
        xmin, ymax, xmax in 0…1 of the stored image), "labels" int32 [n], "crowd" bool [n] and
        "area" float32 [n], see `Objects`. Where there are masks, it has a "mask" uint8 [h, w, 1]:
        positions in `classes`, or IGNORED; nobody has compared its size with the image's yet.
        """
        records, labels, *objects = self._tensors
        record = tf.gather(records, index)
        example = self.read_record(record)
        if self.single_label:
            return {**example, "label": tf.gather(labels, index)}
        if self.masks:
            return example
        starts, *columns = objects
        begin, end = tf.gather(starts, record), tf.gather(starts, record + 1)
        return {
            **example,
            **{key: column[begin:end] for key, column in zip(COLUMNS, columns, strict=True)},
        }

    @functools.cached_property
    def _tensors(self) -> list[tf.Tensor]:
        objects = (
            [self.objects.starts, *(getattr(self.objects, key) for key in COLUMNS)]
            if self.objects is not None
            else []
        )
        # Outside the graph that asks: these tensors serve all graphs.
        with tf.init_scope():
            return [in_memory(array) for array in (self.records, self.labels, *objects)]

    @property
    def single_label(self) -> bool:
        """Whether an example has one class, and neither objects nor a mask."""
        return self.objects is None and not self.masks

    def name(self, index: int) -> str:
        """What a person would look for to see the example at `index`."""
        return self.locate_record(int(self.records[index]))

    def names(self) -> list[str]:
        """All names, the same wherever the data lies."""
        return [self.name_record(record) for record in self.records.tolist()]

    def digest(self) -> str:
        """A fingerprint of which examples these are, in which order, with which labels; contents
        are not read.
        """
        objects = self.objects
        told = (
            self.labels
            if objects is None
            else [objects.digest(record) for record in self.records.tolist()]
        )
        lines = "\n".join(f"{label} {name}" for label, name in zip(told, self.names(), strict=True))
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def describe(self, index: int) -> str:
        """What an example is said to show: its class, how many objects of which classes, or which
        share of its mask each class has.
        """
        if self.masks:
            mask = self.read(tf.constant(index, tf.int64))["mask"].numpy()
            pixels = np.bincount(mask.ravel(), minlength=IGNORED + 1)
            shares = [
                f"{name} {share:.1%}"
                for name, share in zip(self.classes, pixels / mask.size, strict=False)
                if share
            ]
            return ", ".join(shares) or "nothing"
        if self.objects is None:
            return self.classes[self.labels[index]]
        counts = Counter(
            self.classes[label]
            for label in self.objects.labels[self.objects.rows(int(self.records[index]))]
        )
        return (
            ", ".join(f"{counts[name]} {name}" for name in self.classes if counts[name])
            or "nothing"
        )

    def counts(self) -> np.ndarray:
        """How many examples each class has, or how many objects: int64 [K]; zeros where there are
        masks: they would have to be read.
        """
        if self.masks:
            return np.zeros(len(self.classes), np.int64)
        if self.objects is None:
            return np.bincount(self.labels, minlength=len(self.classes))
        rows = [self.objects.labels[self.objects.rows(record)] for record in self.records.tolist()]
        return np.bincount(
            np.concatenate([*rows, np.zeros(0, np.int32)]), minlength=len(self.classes)
        )

    def subset(self, indices: np.ndarray) -> Source:
        """The examples at `indices` (int [M]), in that order."""
        return dataclasses.replace(self, labels=self.labels[indices], records=self.records[indices])

    def relabel(self, classes: tuple[str, ...]) -> Source:
        """The examples of `classes`, labelled by their positions there; those of other classes are
        left out.

        Where there are objects, those of other classes are left out, and all images stay; so with
        masks, whose pixels of other classes become IGNORED.
        """
        number = {name: label for label, name in enumerate(classes)}
        position = np.array([number.get(name, -1) for name in self.classes], np.int32)
        if self.objects is not None:
            return dataclasses.replace(
                self, classes=classes, objects=self.objects.relabel(position)
            )
        if self.masks:
            return dataclasses.replace(
                self, classes=classes, read_record=_relabelled(self.read_record, position)
            )
        labels = position[self.labels]
        return dataclasses.replace(self, classes=classes, labels=labels).subset(
            np.flatnonzero(labels >= 0)
        )


def whole(
    classes: tuple[str, ...],
    labels: np.ndarray,
    read_record: Reader,
    name_record: Callable[[int], str],
    locate: Callable[[str], str] = str,
) -> Source:
    """All records of a format as one source; `labels` is int32 [R], `locate` says of a name where
    to look for it.
    """
    records = np.arange(len(labels), dtype=np.int64)
    return Source(
        classes,
        labels.astype(np.int32),
        read_record,
        name_record,
        lambda record: locate(name_record(record)),
        records,
    )


def annotated(
    classes: tuple[str, ...],
    objects: Objects,
    read_record: Reader,
    name_record: Callable[[int], str],
    locate: Callable[[str], str] = str,
) -> Source:
    """All records of a detection format as one source; the arguments are those of `whole`, with
    objects in place of labels.
    """
    strata = np.zeros(objects.records, np.int32)
    return dataclasses.replace(
        whole(classes, strata, read_record, name_record, locate), objects=objects
    )


def masked(
    classes: tuple[str, ...],
    records: int,
    read_record: Reader,
    name_record: Callable[[int], str],
    locate: Callable[[str], str] = str,
) -> Source:
    """All records of a segmentation format as one source; the arguments are those of `whole`, with
    R in place of labels.
    """
    return dataclasses.replace(
        whole(classes, np.zeros(records, np.int32), read_record, name_record, locate), masks=True
    )


def _relabelled(read: Reader, position: np.ndarray) -> Reader:
    """Labels l of masks become position[l], int32 [K], or IGNORED where that is -1."""
    if np.array_equal(position, np.arange(len(position))):
        return read
    table = np.full(IGNORED + 1, IGNORED, np.uint8)
    table[: len(position)] = np.where(position < 0, IGNORED, position)

    def relabelled(record: tf.Tensor) -> Example:
        example = read(record)
        return {**example, "mask": tf.gather(table, tf.cast(example["mask"], tf.int32))}

    return relabelled


def in_memory(values: np.ndarray | list[bytes]) -> tf.Tensor:
    """Values as a tensor in the host's memory, once: a NumPy array would be copied into every graph
    that reads it.
    """
    with tf.device("CPU:0"):
        return tf.constant(values)


def read_in_python(read: Callable[[int], bytes], record: tf.Tensor) -> tf.Tensor:
    """Graph code that calls Python: a scalar string, what `read` returns for a record number; see
    `call_python`.
    """
    return call_python(read, record, tf.TensorSpec([], tf.string))


def mask_in_python(read: Callable[[Any], np.ndarray], value: tf.Tensor) -> tf.Tensor:
    """Graph code that calls Python: uint8 [H, W, 1], what `read` makes of a record number or of a
    file's bytes; see `call_python`.
    """
    return call_python(read, value, tf.TensorSpec([None, None, 1], tf.uint8))


def call_python(function: Callable[[Any], Any], value: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    """Graph code that calls Python: a tensor of this shape and type, what `function` returns for a
    number or a string.

    A DataError raised in `function` says what is wrong with the record; in a graph it surfaces as
    tf.errors.UnknownError. The function must give the same for the same value, and is called from
    many threads.
    """

    def call(given: Any) -> Any:
        # Bytes come as they are from a graph, and in an array without it.
        return function(given.item() if isinstance(given, np.ndarray | np.integer) else given)

    # Were it taken for stateful, TensorFlow would read one record at a time where it has to be
    # deterministic.
    return tf.ensure_shape(tf.numpy_function(call, [value], spec.dtype, stateful=False), spec.shape)


def among(wanted: str, known: Iterable[str], most: int = 20) -> str:
    """The end of an error about a name that isn't known: the nearest one, and which there are."""
    names = list(known)
    near = difflib.get_close_matches(wanted, names, n=1)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (
        f"did you mean '{near[0]}'? " if near else ""
    ) + f"known: {', '.join(names[:most])}{more}"
