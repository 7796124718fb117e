"""Named points of each object.

An example has "keypoints" float32 [n, P, 2] (y, x as fractions of the image; 0 if not annotated)
and "visibility" int32 [n, P], COCO's 0 (not annotated), 1 (hidden) or 2 (visible). Both are
columns of the objects: a source holds them as `Boxes.more`. "mirror_order" int32 [P] is the order
of the points in a mirror image, which swaps left and right.

A point that is moved out of the image becomes "not annotated".

Dimensions: n objects of an example, P keypoints of an object, N examples.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import tensorflow as tf

from cvpipe.config.augment.augmentation import Fill
from cvpipe.data.annotations.annotation import Annotation, Change, Tally
from cvpipe.data.annotations.boxes import Boxes
from cvpipe.data.annotations.columns import Columns
from cvpipe.data.annotations.flip_pairs import unpaired_sides
from cvpipe.data.example import Example, Reader
from cvpipe.data.facts import Facts
from cvpipe.data.orientation import turns

NOT_ANNOTATED, HIDDEN, VISIBLE = 0, 1, 2
_SHOWN = 5


# Compared by identity, because == of arrays returns an array.
@dataclasses.dataclass(frozen=True, eq=False)
class Keypoints(Annotation):
    """The points of all objects; their coordinates are columns of the objects."""

    mirror_order: tuple[int, ...]
    """For each keypoint, the index of its counterpart in a mirror image."""

    keys = ("keypoints", "visibility", "mirror_order")
    placed = ("keypoints", "visibility")
    per_object = ("keypoints", "visibility")
    noun = "keypoint"
    unlearnable = "no object has an annotated keypoint inside its image"

    def digests(self, records: np.ndarray) -> list[str]:
        """Return the same digest for all records, because the boxes' digest covers the points."""
        order = np.array(self.mirror_order, np.int32).tobytes()
        return [hashlib.sha256(order).hexdigest()[:16]] * len(records)

    def describe(self, record: int, read_record: Reader, facts: Facts) -> str:
        return f"{len(facts.keypoint_names)} keypoints each"

    def learnable(self, records: np.ndarray, annotations: Sequence[Annotation]) -> int:
        """Count the annotated points. They are stored with the objects."""
        objects = next(each for each in annotations if isinstance(each, Boxes))
        points = np.sum(objects.more["visibility"] > NOT_ANNOTATED, axis=1)
        ends = np.concatenate([[0], np.cumsum(points)])[objects.starts]
        return int((ends[records + 1] - ends[records]).sum())

    def read(self, record: tf.Tensor) -> Example:
        return {"mirror_order": tf.constant(self.mirror_order, tf.int32)}

    @classmethod
    def merge_fault(cls, facts: Sequence[Facts]) -> str | None:
        """Refuse different keypoints: an example identifies a point only by its index."""
        for other in facts[1:]:
            if other.keypoint_names != facts[0].keypoint_names:
                return (
                    f"the keypoints {', '.join(other.keypoint_names)} of one merged source aren't"
                    f" the {', '.join(facts[0].keypoint_names)} of another; give all sources the"
                    " same keypoints in the same order"
                )
            if set(other.flip_pairs) != set(facts[0].flip_pairs):
                return (
                    "the merged sources pair different keypoints as left and right; give all"
                    " sources the same flip_pairs"
                )
        return None

    @classmethod
    def mirror_fault(cls, facts: Facts) -> str | None:
        """Report keypoints of one side without a partner: a mirrored image keeps their names."""
        alone = unpaired_sides(facts.keypoint_names, facts.flip_pairs)
        if not alone:
            return None
        listed = ", ".join(alone[:_SHOWN])
        more = f" and {len(alone) - _SHOWN} more" if len(alone) > _SHOWN else ""
        return (
            f"no partner is known that a mirrored image swaps with {listed}{more}; name the pairs"
            " of keypoints in data.source.flip_pairs"
        )

    @classmethod
    def join(cls, parts: Sequence[Self], sizes: Sequence[int]) -> Keypoints:
        return parts[0]

    @classmethod
    def from_columns(cls, columns: Columns, facts: Facts) -> Keypoints:
        """Derive the mirror order from the flip pairs; the points are columns of the boxes."""
        return Keypoints(mirror_order(len(facts.keypoint_names), facts.flip_pairs))

    def tally(self, records: np.ndarray, facts: Facts) -> Tally:
        return _Points(facts.keypoint_names)

    @staticmethod
    def measure(example: Example) -> Example:
        """Return "points", int32 [3, P]: the number of objects by visibility and point."""
        levels = tf.range(VISIBLE + 1)[:, tf.newaxis, tf.newaxis]
        points = tf.reduce_sum(tf.cast(example["visibility"] == levels, tf.int32), axis=1)
        return {"points": points}

    @staticmethod
    def upright(example: Example, orientation: tf.Tensor, extent: tf.Tensor) -> Example:
        transpose, left_right, top_bottom = turns(orientation)
        y, x = tf.unstack(example["keypoints"], axis=-1)
        y, x = tf.where(transpose, x, y), tf.where(transpose, y, x)
        x = tf.where(left_right, 1 - x, x)
        y = tf.where(top_bottom, 1 - y, y)
        # Each of the three is a reflection; two reflections make a rotation.
        is_mirrored = tf.math.logical_xor(tf.math.logical_xor(transpose, left_right), top_bottom)
        order = example["mirror_order"]
        order = tf.where(is_mirrored, order, tf.range(tf.size(order)))
        return _in_order(tf.stack([y, x], -1), example["visibility"], order)

    @staticmethod
    def mirrored(example: Example, axis: int) -> Example:
        """Mirror the points. Both axes swap left and right: a vertical mirror image is a horizontal
        one rotated by 180°.
        """
        places = tf.unstack(example["keypoints"], axis=-1)
        places[axis] = 1 - places[axis]
        return _in_order(tf.stack(places, -1), example["visibility"], example["mirror_order"])

    @staticmethod
    def moved(example: Example, size: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> Change:
        scale, offset = tf.cast(scale, tf.float32), tf.cast(offset, tf.float32)
        return _shown(example["keypoints"] * scale + offset, example["visibility"])

    @staticmethod
    def warped(example: Example, transform: tf.Tensor, extent: tf.Tensor, fill: Fill) -> Change:
        """Transform the points; their mirror images in a border stay unannotated."""
        extent = tf.cast(extent, tf.float32)
        (a0, a1, a2), (b0, b1, b2) = tf.unstack(transform[:3]), tf.unstack(transform[3:6])
        # The transform has 0 at the center of the first pixel, not at its edge.
        y, x = tf.unstack(example["keypoints"] * extent - 0.5, axis=-1)
        determinant = a0 * b1 - a1 * b0
        y, x = y - b2, x - a2
        y, x = (a0 * y - b0 * x) / determinant, (b1 * x - a1 * y) / determinant
        return _shown((tf.stack([y, x], -1) + 0.5) / extent, example["visibility"])

    @staticmethod
    def sampled(example: Example, y: tf.Tensor, x: tf.Tensor, fill: Fill) -> Change:
        """Find the pixel that shows each point, and the position within that pixel."""
        extent = tf.cast(tf.shape(y), tf.float32)
        points = tf.reshape(example["keypoints"], [-1, 2]) * extent - 0.5
        # One point at a time, because a distance map for every point would take much memory.
        found = tf.map_fn(lambda point: _looked_up(point, y, x), points)
        places = tf.reshape((found + 0.5) / extent, tf.shape(example["keypoints"]))
        return _shown(tf.ensure_shape(places, example["keypoints"].shape), example["visibility"])


def mirror_order(points: int, flip_pairs: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Return the order of `points` keypoints in a mirror image."""
    order = list(range(points))
    for first, second in flip_pairs:
        order[first], order[second] = second, first
    return tuple(order)


def _in_order(places: tf.Tensor, visibility: tf.Tensor, order: tf.Tensor) -> Example:
    """Reorder positions and visibility by `order`, int32 [P]."""
    places = tf.where(visibility[..., tf.newaxis] > NOT_ANNOTATED, places, 0.0)
    return {
        "keypoints": tf.ensure_shape(tf.gather(places, order, axis=1), places.shape),
        "visibility": tf.ensure_shape(tf.gather(visibility, order, axis=1), visibility.shape),
    }


def _shown(places: tf.Tensor, visibility: tf.Tensor) -> Change:
    """Mark points outside the image as not annotated. Objects stay even if they lose all points."""
    is_inside = tf.reduce_all((places >= 0) & (places <= 1), axis=-1)
    visibility = tf.where(is_inside, visibility, NOT_ANNOTATED)
    places = tf.where(visibility[..., tf.newaxis] > NOT_ANNOTATED, places, 0.0)
    return Change({"keypoints": places, "visibility": visibility})


def _looked_up(point: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Return the position, float32 [2], of a point in an image resampled at (y, x), float32 [H, W]
    each; outside the image if it doesn't show the point.

    Found by one step of Newton's method from the nearest pixel.
    """
    columns = tf.shape(y)[1]
    distance = tf.square(y - point[0]) + tf.square(x - point[1])
    nearest = tf.argmin(tf.reshape(distance, [-1]), output_type=tf.int32)
    row, column = nearest // columns, nearest % columns

    def slope(places: tf.Tensor, axis: int) -> tf.Tensor:
        last = tf.shape(places)[axis] - 1
        at = row if axis == 0 else column
        low, high = tf.maximum(at - 1, 0), tf.minimum(at + 1, last)
        ends = [places[end, column] if axis == 0 else places[row, end] for end in (low, high)]
        return tf.math.divide_no_nan(ends[1] - ends[0], tf.cast(high - low, tf.float32))

    y_down, y_across, x_down, x_across = (
        slope(places, axis) for places in (y, x) for axis in (0, 1)
    )
    beyond_y, beyond_x = point[0] - y[row, column], point[1] - x[row, column]
    determinant = y_down * x_across - y_across * x_down
    down = tf.math.divide_no_nan(x_across * beyond_y - y_across * beyond_x, determinant)
    across = tf.math.divide_no_nan(y_down * beyond_x - x_down * beyond_y, determinant)
    # Where the deformation folds, the slope is useless; limit the step to a pixel.
    step = tf.clip_by_value(tf.stack([down, across]), -1.0, 1.0)
    return tf.cast(tf.stack([row, column]), tf.float32) + step


class _Points(Tally):
    """Number of objects by keypoint and visibility."""

    def __init__(self, names: tuple[str, ...]):
        self._names = names
        self._points = np.zeros([VISIBLE + 1, len(names)], np.int64)

    def add(self, measured: Mapping[str, np.ndarray], readable: np.ndarray) -> None:
        self._points += measured["points"][readable].sum(0)

    def result(self) -> dict[str, Any]:
        """Return "keypoints": {name: {"visible", "hidden", "not_annotated": number of objects}}."""
        missing, hidden, visible = self._points.tolist()
        found = {
            name: {"visible": v, "hidden": h, "not_annotated": m}
            for name, v, h, m in zip(self._names, visible, hidden, missing, strict=True)
        }
        rows = ", ".join(
            f"{name} {counts['visible']} visible, {counts['hidden']} hidden"
            for name, counts in found.items()
        )
        never = [
            f"the keypoint '{name}' is annotated nowhere: it can't be learned"
            for name, counts in found.items()
            if counts["visible"] + counts["hidden"] == 0
        ]
        return {"keypoints": found, "notes": [f"points   {rows}", *never]}
