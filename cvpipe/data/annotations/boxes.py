"""Objects: their boxes and classes.

An example has "boxes" float32 [n, 4] (ymin, xmin, ymax, xmax in 0…1, as fractions of the image),
"labels" int32 [n], "crowd" bool [n] and "area" float32 [n], pixels² of the image. Other kinds, such
as keypoints, may describe the same objects further.

Dimensions: R records, T objects in all of them, n objects of an example, K classes.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import numpy as np
import tensorflow as tf

from cvpipe.config.augment.augmentation import Fill
from cvpipe.data.annotations.annotation import Annotation, Change
from cvpipe.data.annotations.columns import Columns
from cvpipe.data.annotations.faults import Faults, sum_of_faults
from cvpipe.data.annotations.frame import Frames, frames_of_columns, join_frames
from cvpipe.data.example import Example, Reader
from cvpipe.data.facts import Facts
from cvpipe.data.graph import in_memory
from cvpipe.data.orientation import turns
from cvpipe.geometry.boxes import area

# An object with a smaller visible share of its area is dropped.
LEAST_VISIBLE = 0.25
EXCESS = "beyond data.max_objects, left out"
_COLUMNS = ("boxes", "labels", "crowd", "area")


# Compared by identity, because == of arrays returns an array.
@dataclasses.dataclass(frozen=True, eq=False)
class Boxes(Annotation):
    """The objects of all records, one record after the other."""

    boxes: np.ndarray
    """float32 [T, 4]: ymin, xmin, ymax, xmax in 0…1, as fractions of the height and width of the
    stored image, or of the frame in `frames`. Every box has an area above 0.
    """
    labels: np.ndarray
    """int32 [T]: positions in the class names."""
    crowd: np.ndarray
    """bool [T]: crowd regions and objects marked difficult; neither learned nor scored."""
    area: np.ndarray
    """float32 [T]: area of the object's outline in pixels² of the stated size, or of the image if
    no size is stated; −1 if the format gives no area.
    """
    starts: np.ndarray
    """int64 [R + 1]: record r has the rows starts[r] … starts[r + 1] − 1."""
    faults: Faults = dataclasses.field(default_factory=dict)
    more: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """Columns of other kinds that describe the same objects, [T, …] each, by their name in an
    example.
    """
    frames: Frames | None = None
    """Frames of the records; None if all boxes refer to the stored image."""

    keys = _COLUMNS
    placed = ("boxes",)
    per_object = _COLUMNS
    noun = "object"
    unlearnable = "no object is left (crowds and objects marked difficult are not learned)"

    def rows(self, record: int) -> slice:
        """Return the rows of a record's objects."""
        return slice(int(self.starts[record]), int(self.starts[record + 1]))

    def keep(self, wanted: np.ndarray) -> Boxes:
        """Return the objects for which `wanted`, bool [T], is True; all records stay."""
        starts = np.concatenate([[0], np.cumsum(wanted)])[self.starts]
        return self._with({key: rows[wanted] for key, rows in self.columns().items()}, starts)

    def columns(self) -> dict[str, np.ndarray]:
        """Return all columns of the objects, [T, …] each."""
        return {**{key: getattr(self, key) for key in _COLUMNS}, **self.more}

    def _with(self, columns: Mapping[str, np.ndarray], starts: np.ndarray) -> Boxes:
        more = {key: columns[key] for key in self.more}
        boxes, labels, crowd, area = (columns[key] for key in _COLUMNS)
        return Boxes(boxes, labels, crowd, area, starts, self.faults, more, self.frames)

    def digests(self, records: np.ndarray) -> list[str]:
        return [self._digest(record) for record in records.tolist()]

    def _digest(self, record: int) -> str:
        rows = self.rows(record)
        content = [column[rows].tobytes() for column in self.columns().values()]
        if self.frames:
            content += [column[record].tobytes() for column in self.frames]
        return hashlib.sha256(b"".join(content)).hexdigest()[:16]

    def describe(self, record: int, read_record: Reader, facts: Facts) -> str:
        counts = Counter(facts.class_names[label] for label in self.labels[self.rows(record)])
        shown = [f"{counts[name]} {name}" for name in facts.class_names if counts[name]]
        return ", ".join(shown) or "nothing"

    def read(self, record: tf.Tensor) -> Example:
        starts, columns, frames = self._tensors
        begin, end = tf.gather(starts, record), tf.gather(starts, record + 1)
        return {
            **{key: column[begin:end] for key, column in columns.items()},
            **{key: tf.gather(column, record) for key, column in frames.items()},
        }

    @functools.cached_property
    def _tensors(self) -> tuple[tf.Tensor, Example, Example]:
        # Made outside the calling graph, because all graphs share these tensors.
        with tf.init_scope():
            columns = {key: in_memory(column) for key, column in self.columns().items()}
            return in_memory(self.starts), columns, self.frames.tensors() if self.frames else {}

    def counts(self, records: np.ndarray, num_classes: int) -> np.ndarray:
        rows = [self.labels[self.rows(record)] for record in records.tolist()]
        return np.bincount(np.concatenate([*rows, np.zeros(0, np.int32)]), minlength=num_classes)

    def learnable(self, records: np.ndarray, annotations: Sequence[Annotation]) -> int:
        """Count the objects that aren't crowds."""
        ends = np.concatenate([[0], np.cumsum(~self.crowd)])[self.starts]
        return int((ends[records + 1] - ends[records]).sum())

    def relabel(self, position: np.ndarray) -> Boxes:
        """Replace label l by position[l]; drop objects with position[l] = −1."""
        labels = position.astype(np.int32)[self.labels]
        return dataclasses.replace(self, labels=labels).keep(labels >= 0)

    def at_most(self, objects: int, name_record: Callable[[int], str]) -> Boxes:
        """Keep the first `objects` objects of each record, in the order of the files."""
        counts = np.diff(self.starts)
        excess = np.flatnonzero(counts > objects)
        if not len(excess):
            return self
        position = np.arange(len(self.labels)) - np.repeat(self.starts[:-1], counts)
        faults = {
            name_record(int(record)): {EXCESS: int(counts[record]) - objects} for record in excess
        }
        return dataclasses.replace(
            self.keep(position < objects), faults=sum_of_faults([self.faults, faults])
        )

    @classmethod
    def join(cls, parts: Sequence[Self], sizes: Sequence[int]) -> Boxes:
        firsts = [part._first(size) for part, size in zip(parts, sizes, strict=True)]
        ends = np.cumsum([0] + [len(part.labels) for part in firsts])
        later = [part.starts[1:] + end for part, end in zip(firsts, ends, strict=False)]
        columns = {
            key: np.concatenate([part.columns()[key] for part in firsts])
            for key in firsts[0].columns()
        }
        joined = firsts[0]._with(columns, np.concatenate([[0], *later]))
        faults = sum_of_faults([part.faults for part in firsts])
        frames = join_frames([part.frames for part in parts], sizes, upright=False)
        return dataclasses.replace(joined, faults=faults, frames=frames)

    @classmethod
    def from_columns(cls, columns: Columns, facts: Facts) -> Boxes:
        boxes, labels, crowd, area = (columns.objects[key] for key in _COLUMNS)
        more = {key: rows for key, rows in columns.objects.items() if key not in _COLUMNS}
        frames = frames_of_columns(columns)
        return Boxes(boxes, labels, crowd, area, columns.starts, more=more, frames=frames)

    def _first(self, records: int) -> Boxes:
        end = int(self.starts[records])
        columns = {key: column[:end] for key, column in self.columns().items()}
        return self._with(columns, self.starts[: records + 1])

    @staticmethod
    def upright(example: Example, orientation: tf.Tensor, extent: tf.Tensor) -> Example:
        turned = {"boxes": upright_boxes(example["boxes"], orientation)}
        if "frame_size" in example:
            stated_area, image_area = (
                tf.reduce_prod(tf.cast(size, tf.float32))
                for size in (example["frame_size"], extent)
            )
            is_known = (example["area"] >= 0) & (stated_area > 0)
            scaled = example["area"] * tf.math.divide_no_nan(image_area, stated_area)
            turned["area"] = tf.where(is_known, scaled, example["area"])
        return turned

    @staticmethod
    def mirrored(example: Example, axis: int) -> Example:
        sides = tf.unstack(example["boxes"], axis=-1)
        sides[axis], sides[axis + 2] = 1 - sides[axis + 2], 1 - sides[axis]
        return {"boxes": tf.stack(sides, -1)}

    @staticmethod
    def moved(example: Example, size: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> Change:
        scale, offset = tf.cast(scale, tf.float32), tf.cast(offset, tf.float32)
        return _clipped(example["boxes"] * tf.tile(scale, [2]) + tf.tile(offset, [2]))

    @staticmethod
    def warped(example: Example, transform: tf.Tensor, extent: tf.Tensor, fill: Fill) -> Change:
        """Enclose the four warped corners of each box. Mirror images in the border aren't
        objects.
        """
        extent = tf.cast(extent, tf.float32)
        (a0, a1, a2), (b0, b1, b2) = tf.unstack(transform[:3]), tf.unstack(transform[3:6])
        ymin, xmin, ymax, xmax = tf.unstack(example["boxes"], axis=-1)
        # The transform has 0 at the center of the first pixel, not at its edge.
        x = tf.stack([xmin, xmax, xmin, xmax]) * extent[1] - 0.5 - a2
        y = tf.stack([ymin, ymin, ymax, ymax]) * extent[0] - 0.5 - b2
        determinant = a0 * b1 - a1 * b0
        x, y = (b1 * x - a1 * y) / determinant, (a0 * y - b0 * x) / determinant
        low, high = (
            [tf.reduce_min(y, 0), tf.reduce_min(x, 0)],
            [tf.reduce_max(y, 0), tf.reduce_max(x, 0)],
        )
        return _clipped((tf.stack(low + high, -1) + 0.5) / tf.tile(extent, [2]))

    @staticmethod
    def sampled(example: Example, y: tf.Tensor, x: tf.Tensor, fill: Fill) -> Change:
        """Keep boxes as they are: a box has no exact image under an arbitrary deformation."""
        return Change({})


def upright_boxes(boxes: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Rotate and mirror boxes in the same way as `orientation.upright` changes their image.

    Args:
        boxes: float32 [n, 4], ymin, xmin, ymax, xmax as fractions of the stored image.
        orientation: int32 scalar in 1…8.

    Returns:
        float32 [n, 4], fractions of the upright image.
    """
    transpose, left_right, top_bottom = turns(orientation)
    ymin, xmin, ymax, xmax = tf.unstack(
        tf.where(transpose, tf.gather(boxes, [1, 0, 3, 2], axis=-1), boxes), axis=-1
    )
    xmin, xmax = tf.where(left_right, 1 - xmax, xmin), tf.where(left_right, 1 - xmin, xmax)
    ymin, ymax = tf.where(top_bottom, 1 - ymax, ymin), tf.where(top_bottom, 1 - ymin, ymax)
    return tf.stack([ymin, xmin, ymax, xmax], -1)


def _clipped(boxes: tf.Tensor) -> Change:
    """Clip boxes, float32 [n, 4], to the image; drop objects that are mostly outside."""
    clipped = tf.clip_by_value(boxes, 0, 1)
    seen = area(clipped)
    return Change({"boxes": clipped}, (seen > 0) & (seen >= LEAST_VISIBLE * area(boxes)))
