"""Quality of maps: deletion and insertion (Petsiuk et al. 2018), μ-fidelity (Bhatt et al. 2020) and
the pointing game (Zhang et al. 2018).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy.stats import spearmanr

from cvpipe.explain.perturbation import scores_of_masked
from cvpipe.explain.score import Score
from cvpipe.geometry.boxes import has_area

TOLERANCE = 0.03
"""Distance from a box at which the maximum of a map still counts as inside, as a share of the
image's longer side. In the pointing game's paper, it is 15 pixels of photos with 500.
"""


class Faithfulness(NamedTuple):
    """Mean scores over steps that remove or add pixels in the order of the map, float32 [B]
    each.
    """

    deletion: tf.Tensor
    """Mean score while pixels are removed, the most important first; lower is better."""
    insertion: tf.Tensor
    """Mean score while pixels are added, the most important first; higher is better."""


def faithfulness(
    score: Score,
    images: tf.Tensor,
    classes: tf.Tensor,
    maps: tf.Tensor,
    *,
    steps: int = 20,
    fill: float = 0.0,
) -> Faithfulness:
    """Return deletion and insertion of maps [B, H, W].

    Args:
        score: score of a class, in 0…1, so that results of different classes can be compared.
        images: prepared images.
        classes: one class for each image.
        maps: importance of each pixel.
        steps: number of equal groups of pixels to change in turn.
        fill: value of hidden pixels.
    """
    number, pixels = maps.shape[0], maps.shape[1] * maps.shape[2]
    flat = tf.reshape(maps, [number, pixels])
    order = tf.argsort(flat, direction="DESCENDING", stable=True)
    rank = tf.reshape(tf.argsort(order, stable=True), [*maps.shape, 1])
    counts = tf.constant([round(pixels * step / steps) for step in range(steps + 1)])

    def after(count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        changed = rank < count
        deleted = score(tf.where(changed, fill, images), classes)
        return deleted, score(tf.where(changed, images, fill), classes)

    spec = tf.TensorSpec([number], tf.float32)
    deleted, inserted = tf.map_fn(
        after, counts, fn_output_signature=(spec, spec), parallel_iterations=1
    )
    return Faithfulness(_area(deleted), _area(inserted))


def random_cells(
    size: tuple[int, int],
    seed: tf.Tensor,
    *,
    subsets: int = 128,
    cells: int = 8,
    share: float = 0.2,
) -> tf.Tensor:
    """Return sets of pixels to hide, float32 [subsets, *size], 1 for hidden pixels: random cells of
    a grid.

    Args:
        size: height and width.
        seed: int64 [2], random seed of the cells.
        subsets: number of sets.
        cells: rows and columns of the grid.
        share: share of the cells that are hidden.
    """
    grid = tf.random.stateless_uniform([subsets, cells, cells, 1], seed) < share
    hidden = tf.image.resize(tf.cast(grid, tf.float32), size, "nearest")[..., 0]
    return tf.ensure_shape(hidden, [subsets, *size])


def score_falls(
    score: Score, images: tf.Tensor, classes: tf.Tensor, hidden: tf.Tensor, fill: float = 0.0
) -> tf.Tensor:
    """Return how much the score falls when each set of `random_cells` is hidden: float32 [B, N].
    The `rank_correlation` of this result with `map_sums` is the μ-fidelity of a method.

    Args:
        score: score of a class.
        images: prepared images.
        classes: one class for each image.
        hidden: float32 [N, H, W].
        fill: value of hidden pixels.
    """
    scores = scores_of_masked(score, images, classes, 1 - hidden, fill, batch=32)
    return score(images, classes)[:, tf.newaxis] - scores


def map_sums(maps: tf.Tensor, hidden: tf.Tensor) -> tf.Tensor:
    """Return the sums of maps [B, H, W] over sets of pixels [N, H, W]: float32 [B, N]."""
    return tf.einsum("bhw,nhw->bn", maps, hidden)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation of each row of a [B, …] with that of b, float64 [B]; 0 for
    a row of equal values.
    """
    rows = [
        spearmanr(x.ravel(), y.ravel()).statistic if np.ptp(x) and np.ptp(y) else 0.0
        for x, y in zip(a, b, strict=True)
    ]
    return np.array(rows)


def points_at(maps: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Return True if the maximum of a map [B, H, W] is in one of the image's boxes, or at most
    TOLERANCE away from it: bool [B].

    Args:
        maps: importance of each pixel.
        boxes: float32 [B, n, 4], ymin, xmin, ymax, xmax as fractions of the image; empty boxes
            are ignored.
    """
    height, width = maps.shape[1], maps.shape[2]
    top = tf.argmax(tf.reshape(maps, [-1, height * width]), axis=1, output_type=tf.int32)
    return are_near(top[:, tf.newaxis], boxes, height, width)[:, 0]


def are_near(pixels: tf.Tensor, boxes: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Return True for pixels in a box or at most TOLERANCE away from it: bool [B, N].

    Args:
        pixels: int32 [B, N], positions in the flattened image.
        boxes: as for `points_at`.
        height, width: size of the image in pixels.
    """
    y = (tf.cast(pixels // width, tf.float32) + 0.5)[..., tf.newaxis]
    x = (tf.cast(pixels % width, tf.float32) + 0.5)[..., tf.newaxis]
    ymin, xmin, ymax, xmax = tf.unstack(boxes[:, tf.newaxis], axis=-1)
    down, across = _gap(y, ymin * height, ymax * height), _gap(x, xmin * width, xmax * width)
    near = tf.square(down) + tf.square(across) <= (TOLERANCE * max(height, width)) ** 2
    return tf.reduce_any(near & has_area(boxes)[:, tf.newaxis], axis=-1)


def _gap(position: tf.Tensor, begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Return the distance of a position from an interval; 0 in the interval."""
    return tf.nn.relu(tf.maximum(begin - position, position - end))


def _area(scores: tf.Tensor) -> tf.Tensor:
    """Return the area under equally spaced scores [n, B], by the trapezoidal rule: [B]."""
    ends = (scores[0] + scores[-1]) / 2
    return (tf.reduce_sum(scores, 0) - ends) / (scores.shape[0] - 1)
