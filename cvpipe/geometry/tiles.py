"""Joining of overlapping tiles to large maps, one strip of rows at a time to bound memory.

Tiles begin at multiples of tile − overlap; the last tile may extend beyond the image. Where two
tiles overlap, they are blended linearly. The outermost pixels of a tile, where the network sees the
edge of its input, get weight 0. Dimensions: n tiles in a row, H × W pixels of the whole map, T × S
pixels of a tile, o pixels of overlap, K values per pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

EDGE = 0.25
"""Fraction of an overlap that gets weight 0, on each side."""


def tiles_along(length: tf.Tensor | int, tile: int, overlap: int) -> tf.Tensor:
    """Return the number of tiles that cover a line of `length` pixels, int32 scalar, at least 1."""
    return tf.maximum(-(-(length - overlap) // (tile - overlap)), 1)


def fade_in(overlap: int) -> tf.Tensor:
    """Return the weights of the second of two tiles across their overlap, float32 [o], rising from
    0 to 1. The first tile has 1 minus these weights.
    """
    edge = EDGE * overlap
    return tf.clip_by_value(
        (tf.range(overlap, dtype=tf.float32) + 0.5 - edge) / max(overlap - 2 * edge, 1.0), 0, 1
    )


def join_row(tiles: tf.Tensor, overlap: int) -> tf.Tensor:
    """Join tiles side by side, float32 [n, T, S, K], to one row [T, n (S − o) + o, K]; o is at most
    S / 2.
    """
    count, height, width, values = tf.unstack(tf.shape(tiles))
    step = width - overlap
    ends = tiles[:, :, step:]
    begins = tf.concat(
        [
            tiles[:1, :, :overlap],
            _faded(ends[:-1], tiles[1:, :, :overlap], fade_in(overlap)[:, tf.newaxis]),
        ],
        0,
    )
    steps = tf.transpose(tf.concat([begins, tiles[:, :, overlap:step]], 2), [1, 0, 2, 3])
    return tf.concat([tf.reshape(steps, [height, count * step, values]), ends[-1]], 1)


def fold_rows(
    row: Callable[[tf.Tensor], tf.Tensor],
    size: tf.Tensor,
    values: int,
    tile: int,
    overlap: int,
    finish: Callable[[tf.Tensor], tuple[tf.Tensor, Any]],
) -> tuple[tf.Tensor, Any]:
    """Join overlapping rows of tiles to a map, holding only one row in memory.

    Args:
        row: maps a row number, from 0, to a joined row of tiles, float32 [T, at least W, K].
        size: int32 [2], H and W.
        values: K.
        tile: T.
        overlap: o, at most T / 2.
        finish: maps a strip of the map, float32 [h, W, K], to its final pixels, uint8 [h, W], and
            to a nested structure of float64 values to be summed over strips.

    Returns:
        uint8 [H, W], and the sums.
    """
    height, width = tf.unstack(size)
    step, count = tile - overlap, tiles_along(height, tile, overlap)

    def strip(joined: tf.Tensor, begin: tf.Tensor) -> tuple[tf.Tensor, Any]:
        return finish(joined[: tf.maximum(height - begin, 0), :width])

    def add(number: tf.Tensor, end: tf.Tensor, done: tf.TensorArray, sums: Any) -> tuple[Any, ...]:
        now = row(number)[:, :width]
        weight = tf.where(number > 0, fade_in(overlap), 1.0)[:, tf.newaxis, tf.newaxis]
        pixels, found = strip(
            tf.concat([_faded(end, now[:overlap], weight), now[overlap:step]], 0), number * step
        )
        done = done.write(number, pixels)
        return (
            number + 1,
            tf.ensure_shape(now[step:], [overlap, None, values]),
            done,
            tf.nest.map_structure(tf.add, sums, found),
        )

    nothing = tf.nest.map_structure(tf.zeros_like, finish(tf.zeros([0, width, values]))[1])
    # One more strip for the bottom of the last row.
    done = tf.TensorArray(tf.uint8, count + 1, infer_shape=False, element_shape=[None, None])
    start = (tf.constant(0), tf.zeros([overlap, width, values]), done, nothing)
    of_sums = tf.nest.map_structure(lambda number: number.shape, nothing)
    shapes = (
        tf.TensorShape([]),
        tf.TensorShape([overlap, None, values]),
        tf.TensorShape(None),
        of_sums,
    )
    _, end, done, sums = tf.while_loop(
        lambda number, *_: number < count, add, start, shapes, parallel_iterations=1
    )
    pixels, found = strip(end, count * step)
    return done.write(count, pixels).concat(), tf.nest.map_structure(tf.add, sums, found)


def _faded(earlier: tf.Tensor, later: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    return earlier + weight * (later - earlier)
