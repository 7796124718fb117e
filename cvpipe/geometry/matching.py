"""Matching of default boxes to objects, and hard negative mining (Liu et al. 2016, section 2.2).

Dimensions: B images, M slots for objects, D default boxes.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from cvpipe.geometry.boxes import area, iou, pairwise_intersection

UNMATCHED = -1
"""Index of a default box that matches no object: background."""
IN_CROWD = -2
"""Index of an unmatched default box in a crowd region: neither an object nor background."""

Overlap = Callable[[tf.Tensor], tf.Tensor]
"""Maps a slot, int32 scalar, to the IoU of its objects with every default box, float32 [B, D]; 0
where the slot is empty.
"""


def match(
    defaults: tf.Tensor,
    boxes: tf.Tensor,
    labels: tf.Tensor,
    crowd: tf.Tensor,
    threshold: tf.Tensor | float = 0.5,
) -> tf.Tensor:
    """Match each default box to an object.

    First, every object gets one default box of its own: pairs are taken greedily in order of
    decreasing IoU. An object that overlaps no default box gets none. Then every other default box
    matches the object that it overlaps most, if their IoU is at least the threshold. An unmatched
    box is ignored if the share of its area in a crowd region is at least the threshold, as in
    COCO's evaluation. Ties go to the lower index.

    For example, let one object overlap three default boxes, with threshold 0.5. IoUs of 0.7, 0.5
    and 0.4 match the first two; IoUs of 0.4, 0.3 and 0.1 match the first.

    Args:
        defaults: float32 [D, 4], corners.
        boxes: float32 [B, M, 4], corners in the same unit.
        labels: int32 [B, M], −1 where a slot is empty.
        crowd: bool [B, M], True for crowd regions and objects marked as difficult.
        threshold: in (0, 1].

    Returns:
        int32 [B, D]: the object's slot, `UNMATCHED` or `IN_CROWD`.
    """
    is_object = (labels >= 0) & ~crowd
    used = _used(is_object)

    def overlap(slot: tf.Tensor) -> tf.Tensor:
        return tf.where(
            is_object[:, slot, tf.newaxis], iou(boxes[:, slot, tf.newaxis], defaults)[:, 0], 0
        )

    best, index, choice, gain = _best(overlap, tf.shape(labels), tf.shape(defaults)[0], used)
    index = tf.where(best >= threshold, index, UNMATCHED)
    index = tf.where(
        (index == UNMATCHED) & _in_crowd(defaults, boxes, (labels >= 0) & crowd, threshold),
        IN_CROWD,
        index,
    )
    return _write_own_boxes(index, _assign_own_boxes(overlap, choice, gain, used))


def hard_negatives(
    loss: tf.Tensor, positive: tf.Tensor, eligible: tf.Tensor, ratio: float = 3.0, minimum: int = 0
) -> tf.Tensor:
    """Choose the negatives with the highest loss, at most `ratio` per positive of the same image
    (Liu et al. 2016, "Hard negative mining").

    Args:
        loss: float32 [B, D], at least 0: the loss of classifying each box as background.
        positive: bool [B, D], boxes matched to an object.
        eligible: bool [B, D], boxes that may be chosen: neither positive nor ignored.
        ratio: negatives per positive, at least 0.
        minimum: minimum number of negatives per image. With 0, as in the paper, an image without
            objects has no loss.

    Returns:
        bool [B, D], the chosen negatives; ties go to the lower index.
    """
    wanted = tf.cast(ratio * tf.cast(tf.math.count_nonzero(positive, axis=1), loss.dtype), tf.int32)
    available = tf.math.count_nonzero(eligible, axis=1, dtype=tf.int32)
    count = tf.minimum(tf.maximum(wanted, minimum), available)[:, tf.newaxis]
    value = tf.where(eligible, loss, -1)
    descending = tf.sort(value, axis=1, direction="DESCENDING")
    last = tf.gather(descending, tf.maximum(count - 1, 0), axis=1, batch_dims=1)
    above = value > last
    tied = eligible & (value == last)
    remaining = count - tf.math.count_nonzero(above, axis=1, keepdims=True, dtype=tf.int32)
    return (count > 0) & (above | tied & (tf.cumsum(tf.cast(tied, tf.int32), axis=1) <= remaining))


def _used(is_filled: tf.Tensor) -> tf.Tensor:
    """Return the number of slots to process, int32 scalar: up to the last slot that is filled in
    any image. `is_filled` is bool [B, M].
    """
    return tf.reduce_max(tf.where(is_filled, tf.range(tf.shape(is_filled)[1]) + 1, 0))


def _best(
    overlap: Overlap, slots: tf.Tensor, defaults: tf.Tensor, used: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return for every default box the largest IoU and its object, [B, D], and for every object the
    best default box and its IoU, [B, M].

    The loop goes over slots, so that intermediate results fit into the CPU cache and empty slots
    cost nothing.
    """
    columns = tf.range(slots[1])
    dense = tf.stack([slots[0], defaults])

    def add(
        slot: tf.Tensor, best: tf.Tensor, index: tf.Tensor, choice: tf.Tensor, gain: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        of_slot = overlap(slot)
        first, most = _first_maximum(of_slot)
        return (
            slot + 1,
            tf.maximum(best, of_slot),
            tf.where(of_slot > best, slot, index),
            tf.where(columns == slot, first[:, tf.newaxis], choice),
            tf.where(columns == slot, most[:, tf.newaxis], gain),
        )

    start = (0, tf.zeros(dense), tf.fill(dense, UNMATCHED), tf.fill(slots, -1), tf.zeros(slots))
    return tf.while_loop(lambda slot, *_: slot < used, add, start)[1:]


def _assign_own_boxes(
    overlap: Overlap, choice: tf.Tensor, gain: tf.Tensor, used: tf.Tensor
) -> tf.Tensor:
    """Give every object a default box of its own, int32 [B, M], −1 for none, greedily in order of
    decreasing IoU.

    The algorithm is that of stable matching (Gale and Shapley 1962), which gives the same pairs in
    fewer steps. Every object proposes to the default box that it overlaps most, each box keeps the
    best proposal, and rejected objects propose to their next box. Usually no two objects want the
    same box, and no further round is needed.
    """
    columns = tf.range(tf.shape(choice)[1])

    def propose_again(
        choice: tf.Tensor, gain: tf.Tensor, beaten: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        def propose(
            slot: tf.Tensor, choice: tf.Tensor, gain: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            proposes = beaten[:, slot, tf.newaxis] & (columns == slot)
            first, most = tf.cond(
                tf.reduce_any(proposes),
                lambda: _first_maximum(
                    _after_choice(
                        overlap(slot), choice[:, slot, tf.newaxis], gain[:, slot, tf.newaxis]
                    )
                ),
                lambda: (choice[:, slot], gain[:, slot]),
            )
            return (
                slot + 1,
                tf.where(proposes, first[:, tf.newaxis], choice),
                tf.where(proposes, most[:, tf.newaxis], gain),
            )

        _, choice, gain = tf.while_loop(lambda slot, *_: slot < used, propose, (0, choice, gain))
        return choice, gain, _is_beaten(choice, gain)

    start = (choice, gain, _is_beaten(choice, gain))
    return tf.while_loop(lambda choice, gain, beaten: tf.reduce_any(beaten), propose_again, start)[
        0
    ]


def _write_own_boxes(index: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    """Return the index [B, D] with every object's slot written at its own default box, `own` [B,
    M].
    """
    images, slots = tf.unstack(tf.shape(own))
    defaults = tf.shape(index)[1]
    # Objects without a box write to an extra column, which is cut off.
    places = tf.where(own >= 0, own, defaults) + (defaults + 1) * tf.range(images)[:, tf.newaxis]
    flat = tf.reshape(tf.pad(index, [[0, 0], [0, 1]]), [-1])
    written = tf.tensor_scatter_nd_update(
        flat,
        tf.reshape(places, [-1, 1]),
        tf.reshape(tf.broadcast_to(tf.range(slots), tf.shape(own)), [-1]),
    )
    return tf.reshape(written, [images, defaults + 1])[:, :-1]


def _first_maximum(overlap: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the position of the largest IoU in each row of [B, D], int32 [B], −1 where all are 0;
    and that IoU.
    """
    most = tf.reduce_max(overlap, axis=1)
    return tf.where(most > 0, tf.argmax(overlap, axis=1, output_type=tf.int32), -1), most


def _after_choice(overlap: tf.Tensor, choice: tf.Tensor, gain: tf.Tensor) -> tf.Tensor:
    """Return the IoU [B, D] with 0 for the current choice [B, 1] and for all boxes ranked before
    it.

    `gain` is the IoU of the choice.
    """
    is_later = (overlap < gain) | (overlap == gain) & (tf.range(tf.shape(overlap)[1]) > choice)
    return tf.where(is_later, overlap, 0)


def _is_beaten(choice: tf.Tensor, gain: tf.Tensor) -> tf.Tensor:
    """Return True, bool [B, M], for objects whose box another object also chose with a larger IoU,
    or with an equal IoU and a lower index.
    """
    slots = tf.range(tf.shape(choice)[1])
    same = (choice[:, :, tf.newaxis] == choice[:, tf.newaxis]) & (choice >= 0)[..., tf.newaxis]
    mine, others = gain[:, :, tf.newaxis], gain[:, tf.newaxis]
    better = (others > mine) | (others == mine) & (slots < slots[:, tf.newaxis])
    return tf.reduce_any(same & better, axis=2)


def _in_crowd(
    defaults: tf.Tensor, boxes: tf.Tensor, is_crowd: tf.Tensor, threshold: tf.Tensor | float
) -> tf.Tensor:
    """Return True, bool [B, D], for default boxes with at least the share `threshold` of their area
    in one crowd region.
    """

    def add(slot: tf.Tensor, shared: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        of_slot = pairwise_intersection(boxes[:, slot, tf.newaxis], defaults)[:, 0]
        return slot + 1, tf.maximum(shared, tf.where(is_crowd[:, slot, tf.newaxis], of_slot, 0))

    start = (0, tf.zeros([tf.shape(boxes)[0], tf.shape(defaults)[0]]))
    _, shared = tf.while_loop(lambda slot, shared: slot < _used(is_crowd), add, start)
    return (shared > 0) & (shared >= threshold * area(defaults))
