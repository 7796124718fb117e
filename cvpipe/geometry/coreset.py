"""Coresets: a few points that represent many.

Dimensions: N points of C values.
"""

from __future__ import annotations

import tensorflow as tf

ROUNDING = 1e-6
"""Largest squared distance of points that count as equal, as a share of the largest squared
length.
"""


def greedy_coreset(
    points: tf.Tensor, eligible: tf.Tensor, count: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Choose points greedily, each the farthest from all chosen before (Gonzalez 1985; Roth et al.
    2022, PatchCore, algorithm 1). The largest distance of a point from the coreset is at most twice
    as large as for the best coreset of this size.

    Deterministic: starts with the first eligible point, and takes the first of equally far points.
    The graph is static: its operations don't depend on the points.

    Args:
        points: float32 [N, C].
        eligible: bool [N]; points that aren't eligible are neither chosen nor covered.
        count: number of points to choose.

    Returns:
        int32 [count], positions of the chosen points, and bool [count]: True for the
        first n of them, where n is the number of different eligible points.
    """
    # Centered on the mean, because float32 subtracts large numbers inexactly.
    share = tf.cast(eligible, tf.float32)[:, tf.newaxis]
    middle = tf.reduce_sum(share * points, 0) / tf.maximum(tf.reduce_sum(share), 1.0)
    points = share * (points - middle)
    lengths, places = tf.reduce_sum(tf.square(points), 1), tf.range(tf.shape(points)[0])
    # Squared distance of each point from the nearest chosen point.
    nearest = tf.where(eligible, tf.float32.max, -1.0)
    same = ROUNDING * tf.reduce_max(lengths)
    chosen = tf.TensorArray(tf.int32, count, element_shape=[])
    valid = tf.TensorArray(tf.bool, count, element_shape=[])

    def choose(
        number: tf.Tensor, nearest: tf.Tensor, chosen: tf.TensorArray, valid: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray, tf.TensorArray]:
        farthest = tf.argmax(nearest, output_type=tf.int32)
        chosen = chosen.write(number, farthest)
        valid = valid.write(number, nearest[farthest] > same)
        # Products with one point are computed three times as fast as differences from the point.
        products = tf.linalg.matvec(points, points[farthest])
        distance = tf.maximum(lengths - 2 * products + lengths[farthest], 0.0)
        nearest = tf.where(places == farthest, 0.0, tf.minimum(nearest, distance))
        return number + 1, nearest, chosen, valid

    _, _, chosen, valid = tf.while_loop(
        lambda number, *_: number < count,
        choose,
        (tf.constant(0), nearest, chosen, valid),
        parallel_iterations=1,
        maximum_iterations=count,
    )
    return chosen.stack(), valid.stack()
