"""Quality of maps: deletion, insertion (Petsiuk et al. 2018) and the pointing game (Zhang et al.
2018).
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from cvpipe.explain.score import Score


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
        images: prepared.
        classes: one for each image.
        maps: importance of each pixel.
        steps: number of equal groups of pixels to change in turn.
        fill: value of hidden pixels.
    """
    number, pixels = maps.shape[0], maps.shape[1] * maps.shape[2]
    flat = tf.reshape(maps, [number, pixels])
    order = tf.argsort(flat, direction="DESCENDING", stable=True)
    rank = tf.reshape(tf.argsort(order, stable=True), [*maps.shape, 1])
    deleted, inserted = [], []
    for step in range(steps + 1):
        changed = rank < round(pixels * step / steps)
        deleted.append(score(tf.where(changed, fill, images), classes))
        inserted.append(score(tf.where(changed, images, fill), classes))
    return Faithfulness(_area(deleted), _area(inserted))


def points_at(maps: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Return True if the maximum of a map [B, H, W] is in one of the image's boxes: bool [B].

    Args:
        maps: importance of each pixel.
        boxes: float32 [B, n, 4], ymin, xmin, ymax, xmax as fractions of the image; empty ones are
            ignored.
    """
    height, width = maps.shape[1], maps.shape[2]
    top = tf.argmax(tf.reshape(maps, [-1, height * width]), axis=1, output_type=tf.int32)
    y = (tf.cast(top // width, tf.float32) + 0.5) / height
    x = (tf.cast(top % width, tf.float32) + 0.5) / width
    ymin, xmin, ymax, xmax = tf.unstack(boxes, axis=-1)
    y, x = y[:, tf.newaxis], x[:, tf.newaxis]
    return tf.reduce_any((y >= ymin) & (y < ymax) & (x >= xmin) & (x < xmax), axis=1)


def _area(scores: list[tf.Tensor]) -> tf.Tensor:
    """Return the area under equally spaced scores, by the trapezoidal rule."""
    ends = (scores[0] + scores[-1]) / 2
    return (tf.add_n(scores) - ends) / (len(scores) - 1)
