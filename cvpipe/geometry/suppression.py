"""Non-maximum suppression in the graph, with a fixed output size: the same function in evaluation,
SavedModel and on a TPU.

Dimensions: B images, N boxes, K classes, C candidates, S slots of the answer.
"""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from cvpipe.geometry.boxes import sides_iou

Kind = Literal["classwise", "agnostic", "soft"]
"""Kind of suppression. "classwise": a box suppresses boxes of its own class. "agnostic": boxes of
any class. "soft": it lowers the scores of boxes of its own class (Bodla et al. 2017).
"""
BLOCK = 64
"""Candidates that are compared with each other at once."""


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

    Candidates are the `candidates` highest scores of an image, over all boxes and classes, that
    exceed `score_threshold`. The best is taken, and what overlaps it by more than `iou_threshold`
    is dropped; then the best of the rest, and so on. "classwise" drops only boxes of the same
    class. "agnostic" drops all, and each box has only its best class. "soft" drops none: scores of
    the same class are multiplied by 1 − IoU (Bodla et al. 2017, section 3, the linear one), and end
    when they no longer exceed `score_threshold`. Of equal scores the lower box comes first, then
    the lower class.

    Args:
        boxes: float32 [B, N, 4], corners in any unit, shared by the classes; or [B, N, K, 4], boxes
            of every class.
        scores: float32 [B, N, K] in [0, 1], without background.
        kind: what a box does to those it overlaps. "agnostic" needs shared boxes.
        score_threshold: scalar at least 0.
        iou_threshold: scalar in [0, 1].
        max_detections: int32 scalar, at most `slots`: how many boxes an image may have.
        slots: S, the size of the answer.
        candidates: C; suppression takes time in proportion to it. A result is the same as with all
            N × K candidates unless so many
            are dropped that the rest don't fill the answer.

    Returns:
        "boxes" float32 [B, S, 4], "scores" float32 [B, S], "classes" int32 [B, S] and "count" int32
        [B]; behind `count` boxes and
        scores are 0 and classes −1. Scores are the lowered ones where kind is "soft".

    Raises:
        ValueError: kind is "agnostic" and classes have boxes of their own.
    """
    if kind == "agnostic" and len(boxes.shape) == 4:
        raise ValueError(
            "Class-agnostic suppression needs boxes [B, N, 4] that all classes share, not a box for"
            " every class."
        )
    score_threshold = tf.convert_to_tensor(score_threshold, scores.dtype)
    value, index, classes = _candidates(scores, candidates, one_class=kind == "agnostic")
    found = _gather(boxes, index, classes)
    # Where every box may suppress every other, all are of one class.
    groups = tf.zeros_like(classes) if kind == "agnostic" else classes
    value = tf.where(value > score_threshold, value, 0)
    limit = tf.minimum(tf.cast(max_detections, tf.int32), slots)
    if kind == "soft":
        chosen, value = _choose_softly(
            found, value, groups, score_threshold, iou_threshold, limit, slots
        )
    else:
        chosen, value = _choose(found, value, groups, iou_threshold, limit, slots)
    is_filled = chosen >= 0
    place = tf.maximum(chosen, 0)
    return {
        "boxes": tf.where(
            is_filled[..., tf.newaxis], tf.gather(found, place, axis=1, batch_dims=1), 0
        ),
        "scores": value,
        "classes": tf.where(is_filled, tf.gather(classes, place, axis=1, batch_dims=1), -1),
        "count": tf.math.count_nonzero(is_filled, axis=1, dtype=tf.int32),
    }


def _candidates(
    scores: tf.Tensor, candidates: int, one_class: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the best of [B, N, K] by falling score, with boxes and classes, each [B, C]."""
    classes = scores.shape[2]
    # The boxes of the C highest scores are among the C boxes with the highest best score: a search
    # through N, then C × K, not N × K.
    best, boxes = tf.math.top_k(tf.reduce_max(scores, axis=2), min(candidates, scores.shape[1]))
    if one_class:
        return (
            best,
            boxes,
            tf.argmax(tf.gather(scores, boxes, axis=1, batch_dims=1), axis=2, output_type=tf.int32),
        )
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
    boxes: tf.Tensor,
    value: tf.Tensor,
    groups: tf.Tensor,
    iou_threshold: tf.Tensor | float,
    limit: tf.Tensor,
    slots: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Candidates that no better one drops: places among them int32 [B, S], −1 behind the last, and
    their scores, float32 [B, S].

    A block of candidates at a time, until all slots are taken: most images need one or two, and so
    few steps of a loop.
    """
    columns, beyond = tf.range(slots), -value.shape[1] % BLOCK
    # What fills the last block up has no score.
    boxes, value, groups = (
        tf.pad(x, [[0, 0], [0, beyond], [0, 0]][: len(x.shape)]) for x in (boxes, value, groups)
    )

    def take(
        begin: tf.Tensor, chosen: tf.Tensor, count: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        numbers, place = begin + tf.range(BLOCK), tf.maximum(chosen, 0)
        here, own, scores = (tf.gather(x, numbers, axis=1) for x in (boxes, groups, value))
        taken, their = (tf.gather(x, place, axis=1, batch_dims=1) for x in (boxes, groups))
        dropped = tf.reduce_any(
            _drops(taken, their, here, own, iou_threshold) & (chosen >= 0)[..., tf.newaxis], axis=1
        )
        kept = _keep((scores > 0) & ~dropped, _drops(here, own, here, own, iou_threshold))
        slot = tf.where(
            kept, count[:, tf.newaxis] + tf.cumsum(tf.cast(kept, tf.int32), axis=1) - 1, slots
        )
        is_taken = (slot[..., tf.newaxis] == columns) & (columns < limit)
        chosen = tf.maximum(
            chosen, tf.reduce_max(tf.where(is_taken, numbers[:, tf.newaxis], -1), axis=1)
        )
        return begin + BLOCK, chosen, tf.math.count_nonzero(chosen >= 0, axis=1, dtype=tf.int32)

    def is_open(begin: tf.Tensor, _: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        best = tf.gather(value, tf.minimum(begin, value.shape[1] - 1), axis=1)
        return (begin < value.shape[1]) & tf.reduce_any((count < limit) & (best > 0))

    images = tf.shape(value)[0]
    _, chosen, _ = tf.while_loop(
        is_open, take, (0, tf.fill([images, slots], -1), tf.zeros([images], tf.int32))
    )
    return chosen, tf.where(
        chosen >= 0, tf.gather(value, tf.maximum(chosen, 0), axis=1, batch_dims=1), 0
    )


def _drops(
    boxes: tf.Tensor,
    groups: tf.Tensor,
    others: tf.Tensor,
    other_groups: tf.Tensor,
    iou_threshold: tf.Tensor | float,
) -> tf.Tensor:
    """Return bool [B, n, m]: True if a box, once chosen, drops another. Both must be of the same
    group, and their IoU must exceed the threshold.
    """
    sides = (
        [side[:, :, tf.newaxis] for side in tf.unstack(boxes, axis=-1)],
        [side[:, tf.newaxis] for side in tf.unstack(others, axis=-1)],
    )
    return (sides_iou(*sides) > iou_threshold) & (
        groups[:, :, tf.newaxis] == other_groups[:, tf.newaxis]
    )


def _keep(left: tf.Tensor, drops: tf.Tensor) -> tf.Tensor:
    """Greedy NMS within a block. Returns bool [B, n]: the candidates to keep, given scores in
    descending order.

    Iterates to a fixed point: in each step, a candidate stays unless a better one that was kept in
    the step before drops it. Each step settles one more box of every chain of boxes in which each
    drops the next, and chains are short.

    Args:
        left: bool [B, n], the candidates not dropped so far.
        drops: bool [B, n, n], from `_drops`.
    """
    size = left.shape[1]
    drops &= tf.range(size)[:, tf.newaxis] < tf.range(size)

    def step(kept: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return left & ~tf.reduce_any(drops & kept[..., tf.newaxis], axis=1), kept

    return tf.while_loop(
        lambda kept, before: tf.reduce_any(kept != before), step, (left, tf.zeros_like(left))
    )[0]


def _choose_softly(
    boxes: tf.Tensor,
    value: tf.Tensor,
    groups: tf.Tensor,
    score_threshold: tf.Tensor,
    iou_threshold: tf.Tensor | float,
    limit: tf.Tensor,
    slots: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Candidates taken one after the other, each lowering the scores of others; returns what
    `_choose` does.

    One loop over the slots for the whole batch. All pairs' IoUs at once would be C² numbers an
    image, of which this needs S × C.
    """
    columns = tf.range(slots)
    places = tf.range(value.shape[1])
    sides = tf.unstack(boxes, axis=-1)

    def take(
        slot: tf.Tensor, left: tf.Tensor, chosen: tf.Tensor, scores: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        best = tf.argmax(left, axis=1, output_type=tf.int32)[:, tf.newaxis]
        score = tf.gather(left, best, axis=1, batch_dims=1)
        overlap = sides_iou(
            tf.unstack(tf.gather(boxes, best, axis=1, batch_dims=1), axis=-1), sides
        )
        is_hit = (overlap > iou_threshold) & (
            groups == tf.gather(groups, best, axis=1, batch_dims=1)
        )
        lowered = left * (1 - overlap)
        left = tf.where(is_hit, tf.where(lowered > score_threshold, lowered, 0), left)
        here = (columns == slot) & (score > 0)
        return (
            slot + 1,
            tf.where(places == best, 0.0, left),
            tf.where(here, best, chosen),
            tf.where(here, score, scores),
        )

    shape = [tf.shape(value)[0], slots]
    start = (0, value, tf.fill(shape, -1), tf.zeros(shape, value.dtype))
    _, _, chosen, scores = tf.while_loop(
        lambda slot, left, *_: (slot < limit) & tf.reduce_any(left > 0), take, start
    )
    return chosen, scores
