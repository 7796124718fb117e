"""Coresets: few points that lie near all of many.

Dimensions: N points of C values.
"""

from __future__ import annotations

import tensorflow as tf

ROUNDING = 1e-6
"""Squared distance of equal points at most, as a share of the largest square."""


def greedy_coreset(
    points: tf.Tensor, eligible: tf.Tensor, count: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Choose points one after the other, always the one farthest from all chosen before it
    (Gonzalez 1985; Roth et al. 2022, PatchCore, algorithm 1). No point is then more than twice as
    far from the coreset as from the best one of this size.

    Nothing is random: the first is the first eligible point, and of equally far ones the first is
    chosen. A static graph: the same operations whatever the points are.

    Args:
        points: float32 [N, C].
        eligible: bool [N]; others are neither chosen nor covered.
        count: number of points to choose.

    Returns:
        int32 [count], positions of the chosen points, and bool [count], True for the first of them:
        as many as there are different eligible points.
    """
    # Around their middle, because float32 subtracts large numbers inexactly.
    share = tf.cast(eligible, tf.float32)[:, tf.newaxis]
    middle = tf.reduce_sum(share * points, 0) / tf.maximum(tf.reduce_sum(share), 1.0)
    points = share * (points - middle)
    lengths, places = tf.reduce_sum(tf.square(points), 1), tf.range(tf.shape(points)[0])
    # Squared distance of each point from the nearest chosen one.
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
        # A product of the points with one of them is three times as fast as their differences.
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
