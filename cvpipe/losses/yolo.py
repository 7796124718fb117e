"""Losses of YOLOv1, v2 and v3, per image and part.

Losses have the type of the network's outputs, which is float32 but where gradients are checked.
Boxes are [ymin, xmin, ymax, xmax] as fractions of the network's input. Crowds are neither learned
nor held against a box.
Dimensions: B images, M slots for objects, D boxes, K classes, S cells of YOLOv1's grid with N boxes
    each.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from cvpipe.config.detection import YoloLoss
from cvpipe.geometry.boxes import iou, to_centers
from cvpipe.losses.detection import OVERLAPS, BoxTargets, Losses

FORGIVEN = 0.5
"""A box whose IoU with an object reaches it is not called empty, though another answers for the
object (YOLOv3, section 2.1).
"""
V1_EMPTY_WEIGHT = 0.5
"""λ_noobj of YOLOv1 (equation 3)."""


class YoloRules(NamedTuple):
    """The parts of the loss in which YOLOv2 and v3 differ."""

    softmax: bool
    """True if classes exclude each other; else each is a question of its own (v3, section 2.2)."""
    rescore: bool
    """True if the objectness of a box with an object should be their IoU, not 1."""
    object_weight: float
    """Weight of the objectness of a box with an object: `object_scale` of the authors' code."""
    empty_weight: float
    """Weight of the objectness of an empty box unless the pipeline gives one: `noobject_scale`."""


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
    """Return the loss of YOLOv2 or v3, summed over an image.

    By offsets, a box costs (2 − w h) [Σ CE(σ(t_xy), target) + ½ Σ (t_wh − target)²], w and h being
    the object's width and height. Its gradient is that of the paper (Redmon and Farhadi 2018,
    section 2.1) and of the authors' code: prediction − target, times (2 − w h).

    Args:
        raw: float32 [B, D, 4], t_y, t_x, t_h, t_w as predicted.
        encoded: float32 [B, M, 4], what they should be for each object: within the cell, in 0…1,
            and logarithms of sizes.
        decoded: float32 [B, D, 4], the boxes that `raw` means.
        objectness: float32 [B, D], logits of there being an object.
        logits: float32 [B, D, K].
        objects: the objects of the images.
        responsible: int32 [B, M], the box that answers for each object; any for empty slots.
        rules: `V2` or `V3`.
        loss: the configuration.

    Returns:
        "class", "box" and "objectness", float32 [B]; each is 0 where the prediction is right.
    """
    filled, boxes = tf.cast(objects.is_object, raw.dtype), tf.cast(objects.boxes, raw.dtype)
    raw, own, logits = (
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
        off = 1 - OVERLAPS[loss.box](own, boxes)
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
    """Return YOLOv1's loss, squares throughout (Redmon et al. 2015, equation 3), summed over an
    image.

    Of several objects in a cell all teach their boxes, and the cell's classes.

    Args:
        raw: float32 [B, S N, 4], y and x in the cell, roots of height and width, as predicted.
        decoded: float32 [B, S N, 4], the boxes that `raw` means.
        objectness: float32 [B, S N], as predicted.
        classes: float32 [B, S, K], probabilities of the classes as predicted.
        objects: the objects of the images.
        encoded: float32 [B, M, 4], what `raw` should be.
        cells: int32 [B, M], the cell 0 … S − 1 of each object.
        loss: the configuration.

    Returns:
        "class", "box" and "objectness", float32 [B].
    """
    boxes = decoded.shape[1] // classes.shape[1]
    candidates = cells[..., tf.newaxis] * boxes + tf.range(boxes)
    own = tf.cast(tf.gather(decoded, candidates, batch_dims=1), tf.float32)  # [B, M, N, 4]
    best, reached = _best_of_cell(tf.stop_gradient(own), objects.boxes)
    responsible = cells * boxes + best
    filled = tf.cast(objects.is_object, raw.dtype)
    off = tf.reduce_sum(
        tf.square(tf.gather(raw, responsible, batch_dims=1) - tf.cast(encoded, raw.dtype)), axis=-1
    )
    truth = tf.one_hot(tf.maximum(objects.labels, 0), classes.shape[-1], dtype=raw.dtype)
    wrong = tf.reduce_sum(tf.square(tf.gather(classes, cells, batch_dims=1) - truth), axis=-1)
    # The confidence should be the overlap that is reached (section 2).
    answer = tf.gather(objectness, responsible, batch_dims=1)
    of_objectness = tf.reduce_sum(filled * tf.square(answer - tf.cast(reached, raw.dtype)), axis=1)
    taken = _highest(tf.ones_like(reached), responsible, objects.is_object, decoded.shape[1])
    empty = tf.cast(1 - taken, raw.dtype)
    weight = _empty_weight(loss, V1_EMPTY_WEIGHT)
    of_empty = weight * tf.reduce_sum(empty * tf.square(objectness), axis=1)
    # Equation 3's λ of 5 is part of the method; box_weight comes on top.
    return {
        "class": tf.reduce_sum(filled * wrong, axis=1),
        "box": 5 * loss.box_weight * tf.reduce_sum(filled * off, axis=1),
        "objectness": of_objectness + of_empty,
    }


def _best_of_cell(own: tf.Tensor, boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return which of its cell's boxes answers for each object, int32 [B, M], and their IoU,
    float32 [B, M].

    It is the box that overlaps the object most; where none does, the one whose center, height and
    width have the smallest root mean square error, as in the authors' code.

    Args:
        own: float32 [B, M, N, 4], the boxes of each object's cell.
        boxes: float32 [B, M, 4], the objects.
    """
    boxes = boxes[..., tf.newaxis, :]
    overlaps = iou(boxes, own)[..., 0, :]
    errors = tf.reduce_mean(tf.square(to_centers(own) - to_centers(boxes)), axis=-1)
    reached = tf.reduce_max(overlaps, axis=-1)
    # The smallest mean square is the smallest root.
    rank = tf.where(reached[..., tf.newaxis] > 0, overlaps, -errors)
    return tf.argmax(rank, axis=-1, output_type=tf.int32), reached


def _offset_loss(raw: tf.Tensor, target: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Return what boxes that answer for objects cost by their offsets: [B, M], all three arguments
    being [B, M, 4].
    """
    middle = tf.reduce_sum(_excess_cross_entropy(target[..., :2], raw[..., :2]), axis=-1)
    size = tf.reduce_sum(tf.square(raw[..., 2:] - target[..., 2:]), axis=-1) / 2
    # As in the authors' code, small objects count up to twice as much: the same error costs them
    # more of their IoU.
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
    """Return what the objectness of all boxes costs, float32 [B]."""
    overlaps = iou(tf.cast(tf.stop_gradient(decoded), tf.float32), objects.boxes)
    overlaps = tf.where((objects.labels >= 0)[:, tf.newaxis], overlaps, 0)
    count = objectness.shape[1]
    ones = tf.ones_like(objects.boxes[..., 0])
    taken = _highest(ones, responsible, objects.is_object, count)
    target = taken
    if rules.rescore:
        own = tf.linalg.diag_part(tf.gather(overlaps, responsible, axis=1, batch_dims=1))
        target = _highest(own, responsible, objects.is_object, count)
    forgiven = tf.cast(tf.reduce_max(overlaps, axis=-1) >= FORGIVEN, tf.float32)
    empty = _empty_weight(loss, rules.empty_weight) * (1 - forgiven)
    weight = tf.where(taken > 0, rules.object_weight, empty)
    wrong = _excess_cross_entropy(tf.cast(target, objectness.dtype), objectness)
    return tf.reduce_sum(tf.cast(weight, objectness.dtype) * wrong, axis=1)


def _excess_cross_entropy(target: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Return CE(σ(logits), target) above its minimum, the entropy of the target in [0, 1].

    The entropy is constant: the gradient is σ(logits) − target, and a right prediction costs 0.
    """
    entropy = -tf.math.xlogy(target, target) - tf.math.xlogy(1 - target, 1 - target)
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=logits) - entropy


def _empty_weight(loss: YoloLoss, default: float) -> float:
    return default if loss.empty_weight is None else loss.empty_weight


def _highest(
    values: tf.Tensor, responsible: tf.Tensor, is_object: tf.Tensor, boxes: int
) -> tf.Tensor:
    """Return the highest value [B, M] of the objects that each box answers for, float32 [B, D]; 0
    for boxes without an object. Values are at least 0.
    """
    # A box too many, for slots without an object.
    index = tf.where(is_object, responsible, boxes)
    rows = tf.broadcast_to(tf.range(tf.shape(index)[0])[:, tf.newaxis], tf.shape(index))
    shape = [tf.shape(index)[0], boxes + 1]
    return tf.tensor_scatter_nd_max(tf.zeros(shape), tf.stack([rows, index], axis=-1), values)[
        :, :boxes
    ]
