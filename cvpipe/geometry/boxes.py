"""Boxes: areas, intersections, IoU and its variants, conversions.

A box is float32 [ymin, xmin, ymax, xmax], normalized or in pixels; all arguments of a function have
the same unit.

Dimensions: ... any leading dimensions, N and M boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

SMALLEST_AREA = 1e-9
"""Lower bound of the denominators in `giou`, `diou` and `ciou`, far below a pixel of a normalized
image. It keeps the gradients of degenerate boxes finite.
"""
Sides = Sequence[tf.Tensor]
"""ymin, xmin, ymax and xmax of boxes, each [...]."""


def area(boxes: tf.Tensor) -> tf.Tensor:
    """Return the areas, float32 [...], of boxes [..., 4]; 0 where a box is inverted."""
    return _area(tf.unstack(boxes, axis=-1))


def iou(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """Intersection over union of every pair.

    Args:
        boxes_a: float32 [..., N, 4].
        boxes_b: float32 [..., M, 4].

    Returns:
        float32 [..., N, M] in [0, 1]; 0 where both boxes of a pair are empty.
    """
    return sides_iou(_sides(boxes_a, -2), _sides(boxes_b, -3))


def pairwise_intersection(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """Return the intersection areas, float32 [..., N, M], of all pairs of boxes [..., N, 4] and
    [..., M, 4].
    """
    return _intersection(_sides(boxes_a, -2), _sides(boxes_b, -3))


def sides_iou(a: Sides, b: Sides) -> tf.Tensor:
    """Return the IoU, float32 [...] in [0, 1], of boxes given as sides, which broadcast.

    Loops use it to unstack their boxes only once.
    """
    shared = _intersection(a, b)
    return tf.math.divide_no_nan(shared, _area(a) + _area(b) - shared)


def giou(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    r"""Generalized IoU of corresponding boxes (Rezatofighi et al. 2019, algorithm 1).

    IoU − |C \ (A ∪ B)| / |C|, where C is the smallest box that encloses both.

    Args:
        boxes_a: float32 [..., 4].
        boxes_b: float32 [..., 4], a shape that broadcasts with that of `boxes_a`.

    Returns:
        float32 [...] in [−1, 1].
    """
    a, b = tf.convert_to_tensor(boxes_a), tf.convert_to_tensor(boxes_b)
    overlap, union = _overlap(a, b)
    around = area(_around(a, b))
    return overlap - (around - union) / tf.maximum(around, SMALLEST_AREA)


def diou(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """Distance IoU of corresponding boxes, IoU − ρ² / c² (Zheng et al. 2020, equation 6).

    ρ is the distance between the centers, c the diagonal of the enclosing box. Shapes as in `giou`;
    float32 [...] in [−1, 1].
    """
    a, b = tf.convert_to_tensor(boxes_a), tf.convert_to_tensor(boxes_b)
    overlap, _ = _overlap(a, b)
    return overlap - _distance(a, b)


def ciou(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """Complete IoU of corresponding boxes, IoU − ρ² / c² − α v (Zheng et al. 2020, equations 8 to
    11).

    v = 4/π² (difference of the angles atan(width / height))². α = v / (1 − IoU + v) is a weight and
    has no gradient. Shapes as in `giou`; float32 [...] in (−2, 1].
    """
    a, b = tf.convert_to_tensor(boxes_a), tf.convert_to_tensor(boxes_b)
    overlap, _ = _overlap(a, b)
    aspect = 4 / math.pi**2 * tf.square(_angle(a) - _angle(b))
    weight = tf.stop_gradient(tf.math.divide_no_nan(aspect, 1 - overlap + aspect))
    return overlap - _distance(a, b) - weight * aspect


def to_centers(boxes: tf.Tensor) -> tf.Tensor:
    """Convert corners [..., 4] to [cy, cx, height, width], float32 [..., 4]."""
    low, high = tf.split(tf.convert_to_tensor(boxes), 2, axis=-1)
    return tf.concat([(low + high) / 2, high - low], axis=-1)


def to_corners(centers: tf.Tensor) -> tf.Tensor:
    """Convert [cy, cx, height, width] to corners [ymin, xmin, ymax, xmax], float32 [..., 4]."""
    middle, extent = tf.split(tf.convert_to_tensor(centers), 2, axis=-1)
    return tf.concat([middle - extent / 2, middle + extent / 2], axis=-1)


def clip(boxes: tf.Tensor, extent: tf.Tensor | tuple[float, float] = (1.0, 1.0)) -> tf.Tensor:
    """Clip boxes to an image.

    Args:
        boxes: float32 [..., 4].
        extent: height and width of the image in the boxes' unit, [..., 2] or one pair for all; (1,
            1) for normalized boxes.

    Returns:
        float32 [..., 4]; a box outside the image becomes an empty box on its border.
    """
    boxes = tf.convert_to_tensor(boxes)
    extent = tf.cast(extent, boxes.dtype)
    return tf.minimum(tf.maximum(boxes, 0), tf.concat([extent, extent], axis=-1))


def has_area(boxes: tf.Tensor) -> tf.Tensor:
    """Return True, bool [...], for boxes [..., 4] whose height and width are above 0."""
    return tf.reduce_all(boxes[..., 2:] > boxes[..., :2], axis=-1)


def center_inside(boxes: tf.Tensor) -> tf.Tensor:
    """Return True, bool [...], for normalized boxes [..., 4] whose center lies in the image or on
    its border; False for boxes that aren't finite.
    """
    centers = (boxes[..., :2] + boxes[..., 2:]) / 2
    return tf.reduce_all((centers >= 0) & (centers <= 1), axis=-1)


def _sides(boxes: tf.Tensor, axis: int) -> Sides:
    """Return the sides of boxes with a new dimension at `axis` for broadcasting."""
    return tf.unstack(tf.expand_dims(boxes, axis), axis=-1)


def _extent(sides: Sides) -> tuple[tf.Tensor, tf.Tensor]:
    """Return heights and widths [...], never negative."""
    top, left, bottom, right = sides
    return tf.nn.relu(bottom - top), tf.nn.relu(right - left)


def _area(sides: Sides) -> tf.Tensor:
    height, width = _extent(sides)
    return height * width


def _intersection(a: Sides, b: Sides) -> tf.Tensor:
    (a_top, a_left, a_bottom, a_right), (b_top, b_left, b_bottom, b_right) = a, b
    return _area(
        [
            tf.maximum(a_top, b_top),
            tf.maximum(a_left, b_left),
            tf.minimum(a_bottom, b_bottom),
            tf.minimum(a_right, b_right),
        ]
    )


def _overlap(a: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return IoU and union [...] of corresponding boxes."""
    sides_a, sides_b = tf.unstack(a, axis=-1), tf.unstack(b, axis=-1)
    shared = _intersection(sides_a, sides_b)
    union = _area(sides_a) + _area(sides_b) - shared
    return shared / tf.maximum(union, SMALLEST_AREA), union


def _around(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Return the smallest boxes [..., 4] that enclose both."""
    return tf.concat(
        [tf.minimum(a[..., :2], b[..., :2]), tf.maximum(a[..., 2:], b[..., 2:])], axis=-1
    )


def _distance(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Return ρ² / c² in [0, 1], as defined in `diou`."""
    around = _around(a, b)
    diagonal = tf.reduce_sum(tf.square(around[..., 2:] - around[..., :2]), axis=-1)
    # Sums of corners are twice the centers, hence the division by 4.
    apart = tf.reduce_sum(tf.square(a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]), axis=-1) / 4
    return apart / tf.maximum(diagonal, SMALLEST_AREA)


def _angle(boxes: tf.Tensor) -> tf.Tensor:
    """Return atan(width / height) in [0, π/2]."""
    height, width = _extent(tf.unstack(boxes, axis=-1))
    # atan2 has no gradient at (0, 0).
    return tf.atan2(width, tf.maximum(height, math.sqrt(SMALLEST_AREA)))
