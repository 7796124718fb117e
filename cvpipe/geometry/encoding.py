"""Boxes as what networks predict, and back: SSD's offsets from default boxes, YOLO's offsets in a
cell.

Boxes are normalized corners [ymin, xmin, ymax, xmax]; what is predicted for one is [y, x, height,
width] in the paper's terms.
Dimensions: ... any leading ones, D default boxes, H × W cells, A anchors a cell.
"""

from __future__ import annotations

import tensorflow as tf

from cvpipe.geometry.boxes import to_centers, to_corners

SSD_VARIANCES = (0.1, 0.1, 0.2, 0.2)
"""Divisors of the offsets of y, x, height and width, as in the SSD authors' code; they bring all
four to about the same magnitude.
"""
LARGEST_EXPONENT = 10.0
"""Sizes are decoded up to e^10 times their anchor: finite even as float16."""
SMALLEST_LENGTH = 1e-6
"""Heights and widths are encoded as at least this, so that an empty box has a logarithm."""


def encode_ssd(
    boxes: tf.Tensor, defaults: tf.Tensor, variances: tuple[float, ...] = SSD_VARIANCES
) -> tf.Tensor:
    """Offsets of boxes from their default boxes (Liu et al. 2016, section 2.2, below equation 2).

    Args:
        boxes: float32 [..., D, 4], corners.
        defaults: float32 [D, 4], [cy, cx, height, width].
        variances: what each offset is divided by.

    Returns:
        float32 [..., D, 4]: the centers' distances in heights and widths of the default box, the
        logarithms of the sizes' ratios.
    """
    middle, size = tf.split(to_centers(boxes), 2, axis=-1)
    default_middle, default_size = tf.split(tf.convert_to_tensor(defaults), 2, axis=-1)
    moved = (middle - default_middle) / default_size
    grown = tf.math.log(tf.maximum(size, SMALLEST_LENGTH) / default_size)
    return tf.concat([moved, grown], axis=-1) / variances


def decode_ssd(
    offsets: tf.Tensor, defaults: tf.Tensor, variances: tuple[float, ...] = SSD_VARIANCES
) -> tf.Tensor:
    """The boxes, corners float32 [..., D, 4], that `encode_ssd` made these offsets of; finite for
    finite offsets, not clipped.
    """
    moved, grown = tf.split(offsets * tf.constant(variances, offsets.dtype), 2, axis=-1)
    middle, size = tf.split(tf.cast(defaults, offsets.dtype), 2, axis=-1)
    return to_corners(tf.concat([middle + moved * size, size * _exp(grown)], axis=-1))


def cells_of(boxes: tf.Tensor, grid: tuple[int, int]) -> tf.Tensor:
    """The cell, row and column int32 [..., 2], in which the center of each box lies: corners
    float32 [..., 4], `grid` H, W.
    """
    middle = to_centers(boxes)[..., :2]
    # A center on the right or bottom border belongs to the last cell.
    return tf.clip_by_value(
        tf.cast(tf.floor(middle * tf.cast(grid, middle.dtype)), tf.int32), 0, tf.constant(grid) - 1
    )


def encode_yolo(
    boxes: tf.Tensor, cells: tf.Tensor, anchors: tf.Tensor, grid: tuple[int, int]
) -> tf.Tensor:
    """YOLOv2's and v3's targets (Redmon and Farhadi 2016, figure 3; 2018, section 2.1).

    Args:
        boxes: float32 [..., 4], corners.
        cells: int32 [..., 2], row and column of the cell that answers for each.
        anchors: float32 [..., 2], height and width of the anchor that answers for each, as
            fractions of the image.
        grid: H, W.

    Returns:
        float32 [..., 4]: what the sigmoids of t_y and t_x should be, in [0, 1] within the cell,
        then t_h and t_w.
    """
    middle, size = tf.split(to_centers(boxes), 2, axis=-1)
    inside = middle * tf.cast(grid, middle.dtype) - tf.cast(cells, middle.dtype)
    return tf.concat([inside, tf.math.log(tf.maximum(size, SMALLEST_LENGTH) / anchors)], axis=-1)


def decode_yolo(outputs: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
    """The boxes that YOLOv2 and v3 predict: b = σ(t) + c for the center in cells, p e^t for the
    size.

    Args:
        outputs: float32 [..., H, W, A, 4], raw t_y, t_x, t_h, t_w.
        anchors: float32 [A, 2], heights and widths as fractions of the image.

    Returns:
        corners float32 [..., H, W, A, 4]; finite for finite outputs, not clipped.
    """
    inside, grown = tf.split(outputs, 2, axis=-1)
    corner, grid = _cells(outputs)
    return to_corners(
        tf.concat(
            [(tf.sigmoid(inside) + corner) / grid, tf.cast(anchors, outputs.dtype) * _exp(grown)],
            axis=-1,
        )
    )


def encode_yolo1(boxes: tf.Tensor, cells: tf.Tensor, grid: tuple[int, int]) -> tf.Tensor:
    """YOLOv1's targets (Redmon et al. 2015, section 2.2).

    Args:
        boxes: float32 [..., 4], corners.
        cells: int32 [..., 2], row and column of the cell that answers for each.
        grid: H, W.

    Returns:
        float32 [..., 4]: y and x within the cell, the square roots of height and width as fractions
        of the image; all in [0, 1].
    """
    middle, size = tf.split(to_centers(boxes), 2, axis=-1)
    inside = middle * tf.cast(grid, middle.dtype) - tf.cast(cells, middle.dtype)
    return tf.concat([inside, tf.sqrt(tf.nn.relu(size))], axis=-1)


def decode_yolo1(outputs: tf.Tensor) -> tf.Tensor:
    """The boxes, corners float32 [..., H, W, A, 4], that YOLOv1 predicts in A slots a cell: raw
    outputs of the same shape; not clipped.
    """
    inside, root = tf.split(outputs, 2, axis=-1)
    corner, grid = _cells(outputs)
    return to_corners(tf.concat([(inside + corner) / grid, tf.square(root)], axis=-1))


def _cells(outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Row and column of every cell, [H, W, 1, 2], and how many there are, [2], for outputs [..., H,
    W, A, 4].
    """
    rows, columns = outputs.shape[-4], outputs.shape[-3]
    corner = tf.stack(tf.meshgrid(tf.range(rows), tf.range(columns), indexing="ij"), axis=-1)[
        :, :, tf.newaxis
    ]
    return tf.cast(corner, outputs.dtype), tf.constant([rows, columns], outputs.dtype)


def _exp(exponent: tf.Tensor) -> tf.Tensor:
    return tf.exp(tf.clip_by_value(exponent, -LARGEST_EXPONENT, LARGEST_EXPONENT))
