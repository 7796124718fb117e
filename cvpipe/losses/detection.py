"""What detectors minimize, per image and part: how far boxes are off, and how wrong they are about
what they show.

Losses have the type of the network's outputs, which is float32 but where gradients are checked.
Boxes are [ymin, xmin, ymax, xmax] as fractions of the network's input. A slot whose label is −1 is
empty; crowds are neither learned nor held against a box.
Dimensions: B images, M slots for objects, D boxes, K classes, S cells of YOLOv1's grid with N boxes
    each.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from cvpipe.config.detection import MultiboxLoss, SsdLoss, YoloLoss
from cvpipe.geometry.boxes import ciou, diou, giou, iou, to_corners
from cvpipe.geometry.encoding import encode_ssd
from cvpipe.geometry.matching import UNMATCHED, hard_negatives, match
from cvpipe.losses.classification import focal

Losses = dict[str, tf.Tensor]
FORGIVEN = 0.5
"""A box of YOLO's whose IoU with an object reaches it is not called empty, though another answers
for the object (YOLOv3, section 2.1).
"""


class BoxTargets(NamedTuple):
    """The objects of the images."""

    boxes: tf.Tensor
    """float32 [B, M, 4]."""
    labels: tf.Tensor
    """int32 [B, M], −1 in empty slots."""
    crowd: tf.Tensor
    """bool [B, M]."""

    @property
    def is_object(self) -> tf.Tensor:
        """bool [B, M]: True for objects that have to be found."""
        return (self.labels >= 0) & ~self.crowd


def ssd_loss(
    raw: tf.Tensor,
    logits: tf.Tensor,
    decoded: tf.Tensor,
    objects: BoxTargets,
    defaults: tf.Tensor,
    overlap: float,
    loss: SsdLoss,
) -> Losses:
    """SSD's loss (Liu et al. 2015, equation 1), with a softmax or RetinaNet's focal loss; both
    parts over the image's matched boxes.

    The paper divides by the matched boxes of the whole batch. By those of the image, an image's
    loss doesn't depend on the others that it is together with, nor on the number of replicas.

    Args:
        raw: float32 [B, D, 4], the offsets predicted.
        logits: float32 [B, D, K + 1] with the background first, for multibox; [B, D, K] for focal.
        decoded: float32 [B, D, 4], the boxes that `raw` means.
        objects: the objects of the images.
        defaults: float32 [D, 4], default boxes as [cy, cx, height, width].
        overlap: IoU from which a default box answers for an object.
        loss: the configuration.

    Returns:
        "class" and "box", float32 [B]; without objects both are 0, but for focal's class.
    """
    index = match(to_corners(defaults), *objects, threshold=overlap)
    defaults, boxes = tf.cast(defaults, raw.dtype), tf.cast(objects.boxes, raw.dtype)
    positive, slot = index >= 0, tf.maximum(index, 0)
    label = tf.where(positive, tf.gather(objects.labels, slot, batch_dims=1), -1)
    target = tf.gather(boxes, slot, batch_dims=1)
    if isinstance(loss, MultiboxLoss):
        wrong = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label + 1, logits=logits)
        hardest = hard_negatives(
            tf.stop_gradient(wrong), positive, index == UNMATCHED, loss.negatives
        )
        of_class = tf.where(positive | hardest, wrong, 0)
    else:
        of_class = tf.where(
            index >= UNMATCHED, focal(logits, label, loss.focal_gamma, loss.focal_alpha), 0
        )
    # Boxes without an object have no target; any finite one keeps NaN out of the gradient.
    target = tf.where(positive[..., tf.newaxis], target, to_corners(defaults))
    if loss.box == "offsets":
        off = tf.reduce_sum(_smooth_l1(raw - encode_ssd(target, defaults)), axis=-1)
    else:
        off = 1 - _OVERLAPS[loss.box](decoded, target)
    matched = tf.maximum(tf.reduce_sum(tf.cast(positive, raw.dtype), axis=1), 1)
    of_box = loss.box_weight * tf.where(positive, off, 0)
    return {
        "class": tf.reduce_sum(of_class, axis=1) / matched,
        "box": tf.reduce_sum(of_box, axis=1) / matched,
    }


def yolo_loss(
    raw: tf.Tensor,
    encoded: tf.Tensor,
    decoded: tf.Tensor,
    objectness: tf.Tensor,
    logits: tf.Tensor,
    objects: BoxTargets,
    responsible: tf.Tensor,
    one_class: bool,
    loss: YoloLoss,
) -> Losses:
    """The loss of YOLOv2 and v3 (Redmon and Farhadi 2016, section 2; 2018, sections 2.1 and 2.2),
    summed over an image.

    Args:
        raw: float32 [B, D, 4], t_y, t_x, t_h, t_w as predicted.
        encoded: float32 [B, M, 4], what they should be for each object: within the cell, in 0…1,
            and logarithms of sizes.
        decoded: float32 [B, D, 4], the boxes that `raw` means.
        objectness: float32 [B, D], logits of there being an object.
        logits: float32 [B, D, K].
        objects: the objects of the images.
        responsible: int32 [B, M], the box that answers for each object; any for empty slots.
        one_class: whether classes exclude each other (v2's softmax), or are a question of its own
            each (v3).
        loss: the configuration.

    Returns:
        "class", "box" and "objectness", float32 [B].
    """
    filled, boxes = tf.cast(objects.is_object, raw.dtype), tf.cast(objects.boxes, raw.dtype)
    raw, own, logits = (
        tf.gather(values, responsible, batch_dims=1) for values in (raw, decoded, logits)
    )
    labels = tf.maximum(objects.labels, 0)
    if one_class:
        of_class = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    else:
        truth = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        of_class = tf.reduce_sum(
            tf.nn.sigmoid_cross_entropy_with_logits(labels=truth, logits=logits), axis=-1
        )
    if loss.box == "offsets":
        predicted = tf.concat([tf.sigmoid(raw[..., :2]), raw[..., 2:]], axis=-1)
        # As in the authors' code, small objects count up to twice as much: the same error costs
        # them more of their IoU.
        height, width = tf.unstack(boxes[..., 2:] - boxes[..., :2], axis=-1)
        target = tf.cast(tf.where(objects.is_object[..., tf.newaxis], encoded, 0), raw.dtype)
        off = (2 - height * width) * tf.reduce_sum(tf.square(predicted - target), axis=-1)
    else:
        off = 1 - _OVERLAPS[loss.box](own, boxes)
    return {
        "class": tf.reduce_sum(filled * of_class, axis=1),
        "box": loss.box_weight * tf.reduce_sum(filled * off, axis=1),
        "objectness": _objectness_loss(objectness, decoded, objects, responsible, loss),
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
    """YOLOv1's loss, squares throughout (Redmon et al. 2015, equation 3), summed over an image.

    Of a cell's N boxes the one that overlaps its object most answers for it. Of several objects in
    a cell all teach their boxes, and the cell's classes.

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
    # [B, M, N]
    own = tf.cast(tf.gather(decoded, candidates, batch_dims=1), tf.float32)
    overlaps = iou(objects.boxes[..., tf.newaxis, :], own)[..., 0, :]
    best = tf.argmax(overlaps, axis=-1, output_type=tf.int32)
    responsible = cells * boxes + best
    filled = tf.cast(objects.is_object, raw.dtype)
    off = tf.reduce_sum(
        tf.square(tf.gather(raw, responsible, batch_dims=1) - tf.cast(encoded, raw.dtype)), axis=-1
    )
    truth = tf.one_hot(tf.maximum(objects.labels, 0), classes.shape[-1], dtype=raw.dtype)
    wrong = tf.reduce_sum(tf.square(tf.gather(classes, cells, batch_dims=1) - truth), axis=-1)
    # The confidence should be the overlap that is reached (section 2).
    reached = tf.cast(tf.stop_gradient(tf.reduce_max(overlaps, axis=-1)), raw.dtype)
    answer = tf.gather(objectness, responsible, batch_dims=1)
    empty = tf.cast(1 - _marked(responsible, objects.is_object, decoded.shape[1]), raw.dtype)
    of_objectness = tf.reduce_sum(filled * tf.square(answer - reached), axis=1)
    of_empty = loss.empty_weight * tf.reduce_sum(empty * tf.square(objectness), axis=1)
    # Equation 3's λ of 5 is part of the method; box_weight comes on top.
    return {
        "class": tf.reduce_sum(filled * wrong, axis=1),
        "box": 5 * loss.box_weight * tf.reduce_sum(filled * off, axis=1),
        "objectness": of_objectness + of_empty,
    }


def _objectness_loss(
    objectness: tf.Tensor,
    decoded: tf.Tensor,
    objects: BoxTargets,
    responsible: tf.Tensor,
    loss: YoloLoss,
) -> tf.Tensor:
    """float32 [B]."""
    truth = tf.cast(_marked(responsible, objects.is_object, objectness.shape[1]), objectness.dtype)
    overlaps = iou(tf.cast(tf.stop_gradient(decoded), tf.float32), objects.boxes)
    overlaps = tf.where((objects.labels >= 0)[:, tf.newaxis], overlaps, 0)
    forgiven = tf.cast(tf.reduce_max(overlaps, axis=-1) >= FORGIVEN, objectness.dtype)
    weight = tf.maximum(truth, loss.empty_weight * (1 - forgiven))
    return tf.reduce_sum(
        weight * tf.nn.sigmoid_cross_entropy_with_logits(labels=truth, logits=objectness), axis=1
    )


def _marked(responsible: tf.Tensor, is_object: tf.Tensor, boxes: int) -> tf.Tensor:
    """float32 [B, D]: 1 for boxes that answer for an object."""
    # A box too many, for slots without an object.
    index = tf.where(is_object, responsible, boxes)
    rows = tf.broadcast_to(tf.range(tf.shape(index)[0])[:, tf.newaxis], tf.shape(index))
    shape = [tf.shape(index)[0], boxes + 1]
    return tf.tensor_scatter_nd_max(
        tf.zeros(shape), tf.stack([rows, index], axis=-1), tf.ones_like(index, tf.float32)
    )[:, :boxes]


def _smooth_l1(error: tf.Tensor) -> tf.Tensor:
    """Girshick 2015, equation 3."""
    size = tf.abs(error)
    return tf.where(size < 1, tf.square(error) / 2, size - 0.5)


_OVERLAPS = {"giou": giou, "diou": diou, "ciou": ciou}
