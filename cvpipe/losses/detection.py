"""SSD's loss per image and part, and the types that it shares with YOLO's losses.

Losses have the dtype of the network's outputs: float32, except in gradient checks. Boxes are [ymin,
xmin, ymax, xmax] as fractions of the network's input. A slot with label −1 is empty. Crowd regions
are neither objects nor background.
Dimensions: B images, M slots for objects, D boxes, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from cvpipe.config.detection import MultiboxLoss, SsdLoss
from cvpipe.geometry.boxes import ciou, diou, giou, to_corners
from cvpipe.geometry.encoding import encode_ssd
from cvpipe.geometry.matching import UNMATCHED, hard_negatives, match
from cvpipe.losses.classification import focal

Losses = dict[str, tf.Tensor]
OVERLAPS = {"giou": giou, "diou": diou, "ciou": ciou}
"""Functions that measure the overlap of pairs of boxes, by their names in a pipeline."""


class BoxTargets(NamedTuple):
    """Annotated objects of a batch of images."""

    boxes: tf.Tensor
    """float32 [B, M, 4]."""
    labels: tf.Tensor
    """int32 [B, M], −1 in empty slots."""
    crowd: tf.Tensor
    """bool [B, M]."""

    @property
    def is_object(self) -> tf.Tensor:
        """True for objects, False for crowd regions and empty slots: bool [B, M]."""
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
    """Compute SSD's loss (Liu et al. 2015, equation 1) with a softmax or with RetinaNet's focal
    loss.

    Both parts are divided by the number of matched boxes of the image. The paper divides by the
    number of matched boxes of the batch, which would make the loss of an image depend on the rest
    of the batch and on the number of replicas.

    Args:
        raw: float32 [B, D, 4], the predicted offsets.
        logits: float32 [B, D, K + 1] with the background first, for multibox; [B, D, K] for focal.
        decoded: float32 [B, D, 4], the boxes decoded from `raw`.
        objects: the objects of the images.
        defaults: float32 [D, 4], default boxes as [cy, cx, height, width].
        overlap: minimum IoU of a default box and the object that it matches.
        loss: the configuration.

    Returns:
        "class" and "box", float32 [B]. Without objects both are 0, except the focal loss's "class".
    """
    index = match(to_corners(defaults), *objects, threshold=overlap)
    defaults, boxes = tf.cast(defaults, raw.dtype), tf.cast(objects.boxes, raw.dtype)
    positive, slot = index >= 0, tf.maximum(index, 0)
    label = tf.where(positive, tf.gather(objects.labels, slot, batch_dims=1), -1)
    target = tf.gather(boxes, slot, batch_dims=1)
    if isinstance(loss, MultiboxLoss):
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=label + 1, logits=logits
        )
        hardest = hard_negatives(
            tf.stop_gradient(cross_entropy), positive, index == UNMATCHED, loss.negatives
        )
        of_class = tf.where(positive | hardest, cross_entropy, 0)
    else:
        of_class = tf.where(
            index >= UNMATCHED, focal(logits, label, loss.focal_gamma, loss.focal_alpha), 0
        )
    # Boxes without an object have no target; any finite target keeps NaN out of the gradient.
    target = tf.where(positive[..., tf.newaxis], target, to_corners(defaults))
    if loss.box == "offsets":
        box_error = tf.reduce_sum(_smooth_l1(raw - encode_ssd(target, defaults)), axis=-1)
    else:
        box_error = 1 - OVERLAPS[loss.box](decoded, target)
    matched = tf.maximum(tf.reduce_sum(tf.cast(positive, raw.dtype), axis=1), 1)
    of_box = loss.box_weight * tf.where(positive, box_error, 0)
    return {
        "class": tf.reduce_sum(of_class, axis=1) / matched,
        "box": tf.reduce_sum(of_box, axis=1) / matched,
    }


def _smooth_l1(error: tf.Tensor) -> tf.Tensor:
    """Smooth L1 of each number (Girshick 2015, equation 3)."""
    size = tf.abs(error)
    return tf.where(size < 1, tf.square(error) / 2, size - 0.5)
