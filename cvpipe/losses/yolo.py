"""YOLOv1, v2 and v3 losses per image and part.

Losses have the dtype of the network's outputs: float32, except in gradient checks. Boxes are [ymin,
xmin, ymax, xmax] as fractions of the network's input. Crowd regions are neither objects nor
background.
Dimensions: B images, M slots for objects, D boxes, K classes, S cells of YOLOv1's grid, N boxes per
cell.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from cvpipe.config.detection import YoloLoss
from cvpipe.geometry.boxes import iou, to_centers
from cvpipe.losses.detection import OVERLAPS, BoxTargets, Losses

FORGIVEN = 0.5
"""Minimum IoU with an object at which a box is not trained as empty, even if another box is
responsible for the object (YOLOv3, section 2.1).
"""
V1_EMPTY_WEIGHT = 0.5
"""λ_noobj of YOLOv1 (equation 3)."""


class YoloRules(NamedTuple):
    """The parts of the loss in which YOLOv2 and v3 differ."""

    softmax: bool
    """True for a softmax over the classes, False for one sigmoid per class (v3, section 2.2)."""
    rescore: bool
    """True if the target of the objectness of a box with an object is their IoU instead of 1."""
    object_weight: float
    """Weight of the objectness of a box with an object: `object_scale` of the authors' code."""
    empty_weight: float
    """Default weight of the objectness of an empty box: `noobject_scale` of the authors' code."""


V2 = YoloRules(softmax=True, rescore=True, object_weight=5.0, empty_weight=1.0)
"""Redmon and Farhadi 2016, section 2, with the scales of the authors' yolov2.cfg."""
V3 = YoloRules(softmax=False, rescore=False, object_weight=1.0, empty_weight=1.0)
"""Redmon and Farhadi 2018, sections 2.1 and 2.2."""


def yolo_loss(
    raw: tf.Tensor,
    encoded: tf.Tensor,
    decoded: tf.Tensor,
    objectness: tf.Tensor,
    logits: tf.Tensor,
    objects: BoxTargets,
    responsible: tf.Tensor,
    rules: YoloRules,
    loss: YoloLoss,
) -> Losses:
    """Compute the loss of YOLOv2 or v3, summed over an image.

    The offset loss of a box is (2 − w h) [Σ CE(σ(t_xy), target) + ½ Σ (t_wh − target)²], where w
    and h are the width and height of the object. Its gradient, (2 − w h) (prediction − target), is
    that of the paper (Redmon and Farhadi 2018, section 2.1) and of the authors' code.

    Args:
        raw: float32 [B, D, 4], t_y, t_x, t_h, t_w as predicted.
        encoded: float32 [B, M, 4], the targets of `raw` by object: positions in the cell in 0…1,
            and logarithms of sizes.
        decoded: float32 [B, D, 4], the boxes decoded from `raw`.
        objectness: float32 [B, D], logits.
        logits: float32 [B, D, K].
        objects: the objects of the images.
        responsible: int32 [B, M], the box responsible for each object; arbitrary for empty slots.
        rules: `V2` or `V3`.
        loss: the configuration.

    Returns:
        "class", "box" and "objectness", float32 [B]; each is 0 for a perfect prediction.
    """
    filled, boxes = tf.cast(objects.is_object, raw.dtype), tf.cast(objects.boxes, raw.dtype)
    raw, assigned, logits = (
        tf.gather(values, responsible, batch_dims=1) for values in (raw, decoded, logits)
    )
    labels = tf.maximum(objects.labels, 0)
    if rules.softmax:
        of_class = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    else:
        truth = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        of_class = tf.reduce_sum(
            tf.nn.sigmoid_cross_entropy_with_logits(labels=truth, logits=logits), axis=-1
        )
    if loss.box == "offsets":
        target = tf.cast(tf.where(objects.is_object[..., tf.newaxis], encoded, 0), raw.dtype)
        off = _offset_loss(raw, target, boxes)
    else:
        off = 1 - OVERLAPS[loss.box](assigned, boxes)
    return {
        "class": tf.reduce_sum(filled * of_class, axis=1),
        "box": loss.box_weight * tf.reduce_sum(filled * off, axis=1),
        "objectness": _objectness_loss(objectness, decoded, objects, responsible, rules, loss),
    }


def yolo_v1_loss(
    raw: tf.Tensor,
    decoded: tf.Tensor,
    objectness: tf.Tensor,
    classes: tf.Tensor,
    objects: BoxTargets,
    encoded: tf.Tensor,
    cells: tf.Tensor,
    loss: YoloLoss,
) -> Losses:
    """Compute YOLOv1's loss, a sum of squared errors over an image (Redmon et al. 2015, equation
    3).

    If a cell contains several objects, all of them contribute to the losses of their boxes and of
    the cell's classes.

    Args:
        raw: float32 [B, S N, 4], predicted y and x within the cell and square roots of height and
            width.
        decoded: float32 [B, S N, 4], the boxes decoded from `raw`.
        objectness: float32 [B, S N], as predicted.
        classes: float32 [B, S, K], probabilities of the classes as predicted.
        objects: the objects of the images.
        encoded: float32 [B, M, 4], the targets of `raw`.
        cells: int32 [B, M], the cell 0 … S − 1 of each object.
        loss: the configuration.

    Returns:
        "class", "box" and "objectness", float32 [B].
    """
    boxes = decoded.shape[1] // classes.shape[1]
    candidates = cells[..., tf.newaxis] * boxes + tf.range(boxes)
    in_cell = tf.cast(tf.gather(decoded, candidates, batch_dims=1), tf.float32)  # [B, M, N, 4]
    best, reached = _best_of_cell(tf.stop_gradient(in_cell), objects.boxes)
    responsible = cells * boxes + best
    filled = tf.cast(objects.is_object, raw.dtype)
    off = tf.reduce_sum(
        tf.square(tf.gather(raw, responsible, batch_dims=1) - tf.cast(encoded, raw.dtype)), axis=-1
    )
    truth = tf.one_hot(tf.maximum(objects.labels, 0), classes.shape[-1], dtype=raw.dtype)
    wrong = tf.reduce_sum(tf.square(tf.gather(classes, cells, batch_dims=1) - truth), axis=-1)
    # The target of the confidence is the IoU of the box and the object (section 2).
    answer = tf.gather(objectness, responsible, batch_dims=1)
    of_objectness = tf.reduce_sum(filled * tf.square(answer - tf.cast(reached, raw.dtype)), axis=1)
    taken = _highest(tf.ones_like(reached), responsible, objects.is_object, decoded.shape[1])
    empty = tf.cast(1 - taken, raw.dtype)
    weight = _empty_weight(loss, V1_EMPTY_WEIGHT)
    of_empty = weight * tf.reduce_sum(empty * tf.square(objectness), axis=1)
    # The factor 5 is λ_coord of equation 3; `box_weight` is additional.
    return {
        "class": tf.reduce_sum(filled * wrong, axis=1),
        "box": 5 * loss.box_weight * tf.reduce_sum(filled * off, axis=1),
        "objectness": of_objectness + of_empty,
    }


def _best_of_cell(in_cell: tf.Tensor, boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return, for each object, the number of the responsible box within the cell, int32 [B, M],
    and the IoU of this box and the object, float32 [B, M].

    The box that overlaps the object most is responsible. If no box of the cell overlaps the
    object, the box with the smallest root mean square error of center, height and width is
    responsible, as in the authors' code.

    Args:
        in_cell: float32 [B, M, N, 4], the boxes of each object's cell.
        boxes: float32 [B, M, 4], the objects.
    """
    boxes = boxes[..., tf.newaxis, :]
    overlaps = iou(boxes, in_cell)[..., 0, :]
    errors = tf.reduce_mean(tf.square(to_centers(in_cell) - to_centers(boxes)), axis=-1)
    reached = tf.reduce_max(overlaps, axis=-1)
    # Mean squares have the same order as their roots.
    rank = tf.where(reached[..., tf.newaxis] > 0, overlaps, -errors)
    return tf.argmax(rank, axis=-1, output_type=tf.int32), reached


def _offset_loss(raw: tf.Tensor, target: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Return the offset losses of the responsible boxes, [B, M]. All arguments are [B, M, 4]."""
    middle = tf.reduce_sum(_excess_cross_entropy(target[..., :2], raw[..., :2]), axis=-1)
    size = tf.reduce_sum(tf.square(raw[..., 2:] - target[..., 2:]), axis=-1) / 2
    # As in the authors' code, small objects weigh up to twice as much, because the same error
    # lowers their IoU more.
    height, width = tf.unstack(boxes[..., 2:] - boxes[..., :2], axis=-1)
    return (2 - height * width) * (middle + size)


def _objectness_loss(
    objectness: tf.Tensor,
    decoded: tf.Tensor,
    objects: BoxTargets,
    responsible: tf.Tensor,
    rules: YoloRules,
    loss: YoloLoss,
) -> tf.Tensor:
    """Return the objectness loss of all boxes, float32 [B]."""
    overlaps = iou(tf.cast(tf.stop_gradient(decoded), tf.float32), objects.boxes)
    overlaps = tf.where((objects.labels >= 0)[:, tf.newaxis], overlaps, 0)
    count = objectness.shape[1]
    ones = tf.ones_like(objects.boxes[..., 0])
    taken = _highest(ones, responsible, objects.is_object, count)
    target = taken
    if rules.rescore:
        assigned = tf.linalg.diag_part(tf.gather(overlaps, responsible, axis=1, batch_dims=1))
        target = _highest(assigned, responsible, objects.is_object, count)
    forgiven = tf.cast(tf.reduce_max(overlaps, axis=-1) >= FORGIVEN, tf.float32)
    empty = _empty_weight(loss, rules.empty_weight) * (1 - forgiven)
    weight = tf.where(taken > 0, rules.object_weight, empty)
    wrong = _excess_cross_entropy(tf.cast(target, objectness.dtype), objectness)
    return tf.reduce_sum(tf.cast(weight, objectness.dtype) * wrong, axis=1)


def _excess_cross_entropy(target: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return CE(σ(logits), target) minus its minimum, the entropy of the target in [0, 1].

    The entropy is constant, so the gradient is σ(logits) − target, and a perfect prediction has
    loss 0.
    """
    entropy = -tf.math.xlogy(target, target) - tf.math.xlogy(1 - target, 1 - target)
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=logits) - entropy


def _empty_weight(loss: YoloLoss, default: float) -> float:
    return default if loss.empty_weight is None else loss.empty_weight


def _highest(
    values: tf.Tensor, responsible: tf.Tensor, is_object: tf.Tensor, boxes: int
) -> tf.Tensor:
    """Return for each box the highest value among the objects that it is responsible for, float32
    [B, D]; 0 for boxes without an object. `values` are [B, M], at least 0.
    """
    # Slots without an object write to an extra box, which is cut off at the end.
    index = tf.where(is_object, responsible, boxes)
    rows = tf.broadcast_to(tf.range(tf.shape(index)[0])[:, tf.newaxis], tf.shape(index))
    shape = [tf.shape(index)[0], boxes + 1]
    return tf.tensor_scatter_nd_max(tf.zeros(shape), tf.stack([rows, index], axis=-1), values)[
        :, :boxes
    ]
