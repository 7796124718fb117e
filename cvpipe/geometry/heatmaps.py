"""Heatmaps: Gaussians around keypoints, and decoding of heatmaps to points.

Points are float32 (y, x) as fractions of the map. Dimensions: B images, h × w cells of a map, P
points.
"""

from __future__ import annotations

import tensorflow as tf

LEAST_VALUE = 1e-6
"""Lower bound of cell values before the logarithm."""


def gaussians(points: tf.Tensor, size: tuple[int, int], sigma: float) -> tf.Tensor:
    """Return heatmaps, float32 [B, h, w, P]: a Gaussian of height 1 around each of the points [B,
    P, 2].

    Centers are not rounded to cells. `sigma` is in cells.
    """
    rows, columns = (
        tf.exp(
            -tf.square(_centers(length) - points[:, tf.newaxis, :, axis] * length) / (2 * sigma**2)
        )
        for axis, length in enumerate(size)
    )
    return rows[:, :, tf.newaxis] * columns[:, tf.newaxis]


def peaks(heatmaps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the position, [B, P, 2], and the value, [B, P], of each map's maximum.

    The position within the cell is the maximum of a parabola through the logarithms of the cell and
    its two neighbors. It is exact for a Gaussian (Zhang et al. 2020, DARK, equation 8).

    Args:
        heatmaps: float32 [B, h, w, P].
    """
    height, width = heatmaps.shape[1:3]
    flat = tf.reshape(
        tf.transpose(heatmaps, [0, 3, 1, 2]), [-1, heatmaps.shape[-1], height * width]
    )
    best = tf.argmax(flat, -1, output_type=tf.int32)
    row, column = best // width, best % width

    def value(down: int, across: int) -> tf.Tensor:
        y = tf.clip_by_value(row + down, 0, height - 1)
        x = tf.clip_by_value(column + across, 0, width - 1)
        cell = tf.gather(flat, (y * width + x)[..., tf.newaxis], batch_dims=2)[..., 0]
        return tf.math.log(tf.maximum(cell, LEAST_VALUE))

    center = value(0, 0)
    offsets = []
    for position, length, down, across in ((row, height, 1, 0), (column, width, 0, 1)):
        before, after = value(-down, -across), value(down, across)
        offset = tf.math.divide_no_nan(before - after, 2 * (before - 2 * center + after))
        # At the edge one neighbor is missing.
        has_both = (position > 0) & (position < length - 1)
        offsets.append(tf.where(has_both, tf.clip_by_value(offset, -0.5, 0.5), 0.0))
    cells = tf.cast(tf.stack([row, column], -1), tf.float32) + 0.5 + tf.stack(offsets, -1)
    return cells / tf.constant([height, width], tf.float32), tf.reduce_max(flat, -1)


def mean_places(heatmaps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the mean position, [B, P, 2], under the softmax over each map's cells, and the
    softmax's largest probability, [B, P] (Sun et al. 2018, integral regression).

    Args:
        heatmaps: float32 [B, h, w, P].
    """
    height, width = heatmaps.shape[1:3]
    flat = tf.reshape(heatmaps, [-1, height * width, heatmaps.shape[-1]])
    shares = tf.nn.softmax(flat, axis=1)
    cells = tf.reshape(shares, [-1, height, width, heatmaps.shape[-1]])
    y = tf.reduce_sum(tf.reduce_sum(cells, 2) * _centers(height), 1) / height
    x = tf.reduce_sum(tf.reduce_sum(cells, 1) * _centers(width), 1) / width
    return tf.stack([y, x], -1), tf.reduce_max(shares, 1)


def _centers(length: int) -> tf.Tensor:
    """Return the centers of `length` cells, float32 [length, 1]."""
    return (tf.range(length, dtype=tf.float32) + 0.5)[:, tf.newaxis]
