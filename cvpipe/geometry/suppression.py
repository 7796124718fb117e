"""Non-maximum suppression in the graph, with a fixed output size.

Evaluation, SavedModels and TPUs run the same function.

Dimensions: B images, N boxes, K classes, C candidates, S output slots.
"""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from cvpipe.geometry.boxes import sides_iou

Kind = Literal["classwise", "agnostic", "soft"]
"""Kind of suppression. "classwise": a box suppresses boxes of its own class. "agnostic": a box
suppresses boxes of any class. "soft": a box lowers the scores of boxes of its own class (Bodla et
al. 2017).
"""
BLOCK = 64
"""Number of candidates compared with each other at once."""


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
    """Suppress boxes that overlap a box with a higher score.

    Candidates are the highest scores of an image over all boxes and classes, at most `candidates`,
    that exceed `score_threshold`. The best candidate is taken, and candidates whose IoU with it
    exceeds `iou_threshold` are dropped; then the best of the rest is taken, and so on.

    "classwise" drops only boxes of the same class. "agnostic" drops boxes of any class, and each
    box has only its best class. "soft" multiplies scores of the same class by 1 − IoU instead
    (Bodla et al. 2017, section 3, linear penalty), and drops boxes once their scores no longer
    exceed `score_threshold`. Ties go to the lower box index, then to the lower class.

    Args:
        boxes: float32 [B, N, 4], corners in any unit, shared by the classes; or [B, N, K, 4], a box
            per class.
        scores: float32 [B, N, K] in [0, 1], without background.
        kind: the kind of suppression. "agnostic" needs shared boxes.
        score_threshold: scalar at least 0.
        iou_threshold: scalar in [0, 1].
        max_detections: int32 scalar, the maximum number of boxes per image, at most `slots`.
        slots: S, the size of the output.
        candidates: C; the time of suppression is proportional to it. The result equals that with
            all N × K candidates unless too few of the C survive to fill the output.

    Returns:
        "boxes" float32 [B, S, 4], "scores" float32 [B, S], "classes" int32 [B, S] and "count" int32
        [B], in order of decreasing score. After the first `count`, boxes and scores are 0 and
        classes −1. "soft" returns the lowered scores.

    Raises:
        ValueError: kind is "agnostic" and each class has its own boxes.
    """
    if kind == "agnostic" and len(boxes.shape) == 4:
        raise ValueError(
            "Class-agnostic suppression needs boxes [B, N, 4] that all classes share, not a box for"
            " every class."
        )
    score_threshold = tf.convert_to_tensor(score_threshold, scores.dtype)
    value, index, classes = _candidates(scores, candidates, one_class=kind == "agnostic")
    found = _gather(boxes, index, classes)
    # Class-agnostic suppression is classwise suppression with a single class.
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
    """Return the C highest of the scores [B, N, K] in descending order, with the indices of their
    boxes and classes, each [B, C].
    """
    classes = scores.shape[2]
    # The C highest scores belong to C boxes at most, all among the C boxes with the highest best
    # score. Selecting those boxes first searches N + C × K scores instead of N × K.
    best, boxes = tf.math.top_k(tf.reduce_max(scores, axis=2), min(candidates, scores.shape[1]))
    if one_class:
        return (
            best,
            boxes,
            tf.argmax(tf.gather(scores, boxes, axis=1, batch_dims=1), axis=2, output_type=tf.int32),
        )
    # Sorted by index, so that top_k breaks ties in favor of the lower box.
    boxes = tf.sort(boxes, axis=1)
    of_boxes = tf.gather(scores, boxes, axis=1, batch_dims=1)
    flat = tf.reshape(of_boxes, [-1, boxes.shape[1] * classes])
    value, place = tf.math.top_k(flat, min(candidates, flat.shape[1]))
    return value, tf.gather(boxes, place // classes, axis=1, batch_dims=1), place % classes


def _gather(boxes: tf.Tensor, index: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Return the boxes [B, C, 4] at these indices; if each class has its own boxes, the boxes of
    these classes.
    """
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
    """Run greedy suppression. Return the positions of the surviving candidates, int32 [B, S], −1
    after the last, and their scores, float32 [B, S].

    Candidates are processed in blocks until all slots are filled. Most images need only one or two
    blocks.
    """
    columns, beyond = tf.range(slots), -value.shape[1] % BLOCK
    # Padding of the last block has score 0.
    boxes, value, groups = (
        tf.pad(x, [[0, 0], [0, beyond], [0, 0]][: len(x.shape)]) for x in (boxes, value, groups)
    )

    def take(
        begin: tf.Tensor, chosen: tf.Tensor, count: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        numbers, place = begin + tf.range(BLOCK), tf.maximum(chosen, 0)
        block, block_groups, scores = (
            tf.gather(x, numbers, axis=1) for x in (boxes, groups, value)
        )
        taken, taken_groups = (tf.gather(x, place, axis=1, batch_dims=1) for x in (boxes, groups))
        dropped = tf.reduce_any(
            _drops(taken, taken_groups, block, block_groups, iou_threshold)
            & (chosen >= 0)[..., tf.newaxis],
            axis=1,
        )
        kept = _keep(
            (scores > 0) & ~dropped, _drops(block, block_groups, block, block_groups, iou_threshold)
        )
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

    Iterates to a fixed point: in each step, a candidate is kept unless a better candidate that was
    kept in the previous step drops it. The number of steps is the length of the longest chain of
    boxes of which each drops the next, and chains are short.

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
    """Run soft suppression: take the best candidate and lower the scores of the candidates that it
    overlaps, S times. Returns the same as `_choose`.

    One loop over the slots serves the whole batch. It computes S × C IoUs per image, not C².
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
