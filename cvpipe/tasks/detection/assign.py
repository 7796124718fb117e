"""Target assignment for YOLO: the predicted box that is responsible for each object.

YOLO assigns an object to the cell that contains the object's center. (SSD assigns objects by
overlap, in `geometry.matching.match`.)

Boxes are [ymin, xmin, ymax, xmax] as fractions of the network's input. Dimensions: B images, D
boxes, M target slots.
"""

from __future__ import annotations

import tensorflow as tf

from cvpipe.geometry.encoding import cells_of, encode_yolo, encode_yolo1
from cvpipe.models.detection import Grid


def yolo_targets(boxes: tf.Tensor, grids: tuple[Grid, ...]) -> tuple[tf.Tensor, tf.Tensor]:
    """Assign each object to a predicted box of YOLOv2 or v3, and encode the box's target.

    The box belongs to the cell that contains the object's center, and to the anchor whose size has
    the largest IoU with the object's size (Redmon and Farhadi 2018, section 2.1).

    Args:
        boxes: boxes of objects, float32 [B, M, 4]. Results for empty slots are meaningless.
        grids: from `yolo_grids`.

    Returns:
        Indices into the D predicted boxes, int32 [B, M]; targets by `encode_yolo`, float32 [B, M,
        4].
    """
    anchors = tf.constant([anchor for grid in grids for anchor in grid.anchors])
    size = boxes[..., 2:] - boxes[..., :2]
    shared = tf.reduce_prod(tf.minimum(size[..., tf.newaxis, :], anchors), axis=-1)
    union = (
        tf.reduce_prod(size, axis=-1)[..., tf.newaxis] + tf.reduce_prod(anchors, axis=-1) - shared
    )
    best = tf.argmax(shared / union, axis=-1, output_type=tf.int32)
    index, encoded = tf.zeros_like(best), tf.zeros_like(boxes)
    begin = first = 0
    for grid in grids:
        of_grid = (best >= first) & (best < first + len(grid.anchors))
        cells = cells_of(boxes, grid.size)
        position = begin + _flat(cells, grid) * len(grid.anchors) + best - first
        index = tf.where(of_grid, position, index)
        target = encode_yolo(boxes, cells, tf.gather(anchors, best), grid.size)
        encoded = tf.where(of_grid[..., tf.newaxis], target, encoded)
        begin, first = begin + grid.boxes, first + len(grid.anchors)
    return index, encoded


def yolo_v1_targets(boxes: tf.Tensor, grid: Grid) -> tuple[tf.Tensor, tf.Tensor]:
    """Assign each object to a cell of YOLOv1, int32 [B, M], and encode its target, float32 [B, M,
    4], by `encode_yolo1`.
    """
    cells = cells_of(boxes, grid.size)
    return _flat(cells, grid), encode_yolo1(boxes, cells, grid.size)


def _flat(cells: tf.Tensor, grid: Grid) -> tf.Tensor:
    """Flatten (row, column), int32 [..., 2], to the index of the cell."""
    return cells[..., 0] * grid.size[1] + cells[..., 1]
