"""Non-maximum suppression in the graph, with a fixed output size: the same function in evaluation, SavedModel and on a TPU.

Dimensions: B images, N boxes, K classes, C candidates, S slots of the answer.
"""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from cvpipe.geometry.boxes import sides_iou

Kind = Literal["classwise", "agnostic", "soft"]
"""Whether a box suppresses those of its own class, all, or lowers the scores of its own class (Bodla et al. 2017)."""


def suppress(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    *,
    kind: Kind = "classwise",
    score_threshold: tf.Tensor | float,
    iou_threshold: tf.Tensor | float,
    max_detections: tf.Tensor | int,
    slots: int = 100,
    candidates: int = 400,
) -> dict[str, tf.Tensor]:
    """The best boxes of every image, by falling score, without those that overlap a better one.

    Candidates are the `candidates` highest scores of an image, over all boxes and classes, that exceed `score_threshold`. The best is
    taken, and what overlaps it by more than `iou_threshold` is dropped; then the best of the rest, and so on. "classwise" drops only
    boxes of the same class. "agnostic" drops all, and each box has only its best class. "soft" drops none: scores of the same class are
    multiplied by 1 − IoU (Bodla et al. 2017, section 3, the linear one), and end when they no longer exceed `score_threshold`.
    Of equal scores the lower box comes first, then the lower class.

    Args:
        boxes: float32 [B, N, 4], corners in any unit, shared by the classes; or [B, N, K, 4], boxes of every class.
        scores: float32 [B, N, K] in [0, 1], without background.
        kind: what a box does to those it overlaps. "agnostic" needs shared boxes.
        score_threshold: scalar at least 0.
        iou_threshold: scalar in [0, 1].
        max_detections: int32 scalar, at most `slots`: how many boxes an image may have.
        slots: S, the size of the answer.
        candidates: C; suppression takes time in proportion to it. A result is the same as with all N × K candidates unless so many
            are dropped that the rest don't fill the answer.

    Returns:
        "boxes" float32 [B, S, 4], "scores" float32 [B, S], "classes" int32 [B, S] and "count" int32 [B]; behind `count` boxes and
        scores are 0 and classes −1. Scores are the lowered ones where kind is "soft".

    Raises:
        ValueError: kind is "agnostic" and classes have boxes of their own.
    """
    if kind == "agnostic" and len(boxes.shape) == 4:
        raise ValueError("Class-agnostic suppression needs boxes [B, N, 4] that all classes share, not a box for every class.")
    score_threshold = tf.convert_to_tensor(score_threshold, scores.dtype)
    value, index, classes = _candidates(scores, candidates, one_class=kind == "agnostic")
    found = _gather(boxes, index, classes)
    # Where every box may suppress every other, all are of one class.
    groups = tf.zeros_like(classes) if kind == "agnostic" else classes
    value = tf.where(value > score_threshold, value, 0)
    limit = tf.minimum(tf.cast(max_detections, tf.int32), slots)
    chosen, value = _choose(found, value, groups, kind == "soft", score_threshold, iou_threshold, limit, slots)
    is_filled = chosen >= 0
    place = tf.maximum(chosen, 0)
    return {
        "boxes": tf.where(is_filled[..., tf.newaxis], tf.gather(found, place, axis=1, batch_dims=1), 0),
        "scores": value,
        "classes": tf.where(is_filled, tf.gather(classes, place, axis=1, batch_dims=1), -1),
        "count": tf.math.count_nonzero(is_filled, axis=1, dtype=tf.int32),
    }


def _candidates(scores: tf.Tensor, candidates: int, one_class: bool) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The highest scores of [B, N, K] with their boxes and classes, each [B, C], by falling score."""
    classes = scores.shape[2]
    # The boxes of the C highest scores are among the C boxes with the highest best score: a search through N, then C × K, not N × K.
    best, boxes = tf.math.top_k(tf.reduce_max(scores, axis=2), min(candidates, scores.shape[1]))
    if one_class:
        return best, boxes, tf.argmax(tf.gather(scores, boxes, axis=1, batch_dims=1), axis=2, output_type=tf.int32)
    # By box again, so that top_k's preference for the lower index is one for the lower box.
    boxes = tf.sort(boxes, axis=1)
    of_boxes = tf.gather(scores, boxes, axis=1, batch_dims=1)
    flat = tf.reshape(of_boxes, [-1, boxes.shape[1] * classes])
    value, place = tf.math.top_k(flat, min(candidates, flat.shape[1]))
    return value, tf.gather(boxes, place // classes, axis=1, batch_dims=1), place % classes


def _gather(boxes: tf.Tensor, index: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Boxes [B, C, 4] of these indices, and of these classes where classes have their own."""
    if len(boxes.shape) == 3:
        return tf.gather(boxes, index, axis=1, batch_dims=1)
    flat = tf.reshape(boxes, [-1, boxes.shape[1] * boxes.shape[2], 4])
    return tf.gather(flat, index * boxes.shape[2] + classes, axis=1, batch_dims=1)


def _choose(
    boxes: tf.Tensor, value: tf.Tensor, groups: tf.Tensor, soft: bool, score_threshold: tf.Tensor, iou_threshold: tf.Tensor | float,
    limit: tf.Tensor, slots: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Candidates taken one after the other: places among them int32 [B, S], −1 behind the last, and their scores, float32 [B, S].

    One loop over the slots for the whole batch. All pairs' IoUs at once would be C² numbers an image, of which this needs S × C.
    """
    columns = tf.range(slots)
    places = tf.range(value.shape[1])
    sides = tf.unstack(boxes, axis=-1)

    def take(
        slot: tf.Tensor, left: tf.Tensor, chosen: tf.Tensor, scores: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        best = tf.argmax(left, axis=1, output_type=tf.int32)[:, tf.newaxis]
        score = tf.gather(left, best, axis=1, batch_dims=1)
        overlap = sides_iou(tf.unstack(tf.gather(boxes, best, axis=1, batch_dims=1), axis=-1), sides)
        is_hit = (overlap > iou_threshold) & (groups == tf.gather(groups, best, axis=1, batch_dims=1))
        if soft:
            lowered = left * (1 - overlap)
            left = tf.where(is_hit, tf.where(lowered > score_threshold, lowered, 0), left)
        else:
            left = tf.where(is_hit, 0.0, left)
        here = (columns == slot) & (score > 0)
        return slot + 1, tf.where(places == best, 0.0, left), tf.where(here, best, chosen), tf.where(here, score, scores)

    shape = [tf.shape(value)[0], slots]
    start = (0, value, tf.fill(shape, -1), tf.zeros(shape, value.dtype))
    _, _, chosen, scores = tf.while_loop(lambda slot, left, *_: (slot < limit) & tf.reduce_any(left > 0), take, start)
    return chosen, scores
