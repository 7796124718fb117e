"""Encoding of boxes as the outputs of SSD and YOLO networks, and decoding.

Boxes are normalized corners [ymin, xmin, ymax, xmax]. Outputs are [y, x, height, width] as defined
in the network's paper.
Dimensions: ... any leading dimensions, D default boxes, H × W cells, A anchors per cell.
"""

from __future__ import annotations

import tensorflow as tf

from cvpipe.geometry.boxes import to_centers, to_corners

SSD_VARIANCES = (0.1, 0.1, 0.2, 0.2)
"""Divisors of the offsets of y, x, height and width, from the SSD authors' code. They bring all
four to similar magnitudes.
"""
LARGEST_EXPONENT = 10.0
"""Largest exponent in decoded sizes: e^10 times the anchor, which is finite even in float16."""
SMALLEST_LENGTH = 1e-6
"""Lower bound of encoded heights and widths, so that empty boxes have a finite logarithm."""


def encode_ssd(
    boxes: tf.Tensor, defaults: tf.Tensor, variances: tuple[float, ...] = SSD_VARIANCES
) -> tf.Tensor:
    """Encode boxes as offsets from their default boxes (Liu et al. 2016, section 2.2, below
    equation 2).

    Args:
        boxes: float32 [..., D, 4], corners.
        defaults: float32 [D, 4], [cy, cx, height, width].
        variances: divisors of the offsets.

    Returns:
        float32 [..., D, 4]: the offsets of the centers in heights and widths of the default box,
        then the logarithms of the size ratios.
    """
    middle, size = tf.split(to_centers(boxes), 2, axis=-1)
    default_middle, default_size = tf.split(tf.convert_to_tensor(defaults), 2, axis=-1)
    moved = (middle - default_middle) / default_size
    grown = tf.math.log(tf.maximum(size, SMALLEST_LENGTH) / default_size)
    return tf.concat([moved, grown], axis=-1) / variances


def decode_ssd(
    offsets: tf.Tensor, defaults: tf.Tensor, variances: tuple[float, ...] = SSD_VARIANCES
) -> tf.Tensor:
    """Decode offsets to boxes, corners float32 [..., D, 4]; the inverse of `encode_ssd`. Finite
    offsets give finite boxes, which are not clipped.
    """
    moved, grown = tf.split(offsets * tf.constant(variances, offsets.dtype), 2, axis=-1)
    middle, size = tf.split(tf.cast(defaults, offsets.dtype), 2, axis=-1)
    return to_corners(tf.concat([middle + moved * size, size * _exp(grown)], axis=-1))


def cells_of(boxes: tf.Tensor, grid: tuple[int, int]) -> tf.Tensor:
    """Return the cell that contains the center of each box: row and column, int32 [..., 2].

    `boxes` are corners, float32 [..., 4]; `grid` is (H, W).
    """
    middle = to_centers(boxes)[..., :2]
    # A center on the right or bottom border belongs to the last cell.
    return tf.clip_by_value(
        tf.cast(tf.floor(middle * tf.cast(grid, middle.dtype)), tf.int32), 0, tf.constant(grid) - 1
    )


def encode_yolo(
    boxes: tf.Tensor, cells: tf.Tensor, anchors: tf.Tensor, grid: tuple[int, int]
) -> tf.Tensor:
    """Encode boxes as targets of YOLOv2 and v3 (Redmon and Farhadi 2016, figure 3; 2018, section
    2.1).

    Args:
        boxes: float32 [..., 4], corners.
        cells: int32 [..., 2], row and column of the cell responsible for each box.
        anchors: float32 [..., 2], height and width of the anchor responsible for each box, as
            fractions of the image.
        grid: H, W.

    Returns:
        float32 [..., 4]: the targets of σ(t_y) and σ(t_x), positions within the cell in [0, 1],
        then those of t_h and t_w.
    """
    middle, size = tf.split(to_centers(boxes), 2, axis=-1)
    inside = middle * tf.cast(grid, middle.dtype) - tf.cast(cells, middle.dtype)
    return tf.concat([inside, tf.math.log(tf.maximum(size, SMALLEST_LENGTH) / anchors)], axis=-1)


def decode_yolo(outputs: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
    """Decode the outputs of YOLOv2 and v3: center b = σ(t) + c in cells, size p e^t.

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
    """Encode boxes as targets of YOLOv1 (Redmon et al. 2015, section 2.2).

    Args:
        boxes: float32 [..., 4], corners.
        cells: int32 [..., 2], row and column of the cell responsible for each box.
        grid: H, W.

    Returns:
        float32 [..., 4]: y and x within the cell, and the square roots of height and width as
        fractions of the image; all in [0, 1].
    """
    middle, size = tf.split(to_centers(boxes), 2, axis=-1)
    inside = middle * tf.cast(grid, middle.dtype) - tf.cast(cells, middle.dtype)
    return tf.concat([inside, tf.sqrt(tf.nn.relu(size))], axis=-1)


def decode_yolo1(outputs: tf.Tensor) -> tf.Tensor:
    """Decode the outputs of YOLOv1, float32 [..., H, W, A, 4], to corners of the same shape, not
    clipped. A is the number of boxes per cell.
    """
    inside, root = tf.split(outputs, 2, axis=-1)
    corner, grid = _cells(outputs)
    return to_corners(tf.concat([(inside + corner) / grid, tf.square(root)], axis=-1))


def _cells(outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the row and column of every cell, [H, W, 1, 2], and the grid's size, [2], for outputs
    [..., H, W, A, 4].
    """
    rows, columns = outputs.shape[-4], outputs.shape[-3]
    corner = tf.stack(tf.meshgrid(tf.range(rows), tf.range(columns), indexing="ij"), axis=-1)[
        :, :, tf.newaxis
    ]
    return tf.cast(corner, outputs.dtype), tf.constant([rows, columns], outputs.dtype)


def _exp(exponent: tf.Tensor) -> tf.Tensor:
    return tf.exp(tf.clip_by_value(exponent, -LARGEST_EXPONENT, LARGEST_EXPONENT))
