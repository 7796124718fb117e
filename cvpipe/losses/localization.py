"""Loss of one class and one box per image.

Boxes are fractions of the network's input. Predicted boxes are [cy, cx, height, width], true boxes
[ymin, xmin, ymax, xmax]. Losses have the dtype of the network's outputs: float32, except in
gradient checks. Dimensions: B images, K classes.
"""

from __future__ import annotations

import tensorflow as tf

from cvpipe.config.localization import LocalizationLoss
from cvpipe.geometry.boxes import ciou, diou, giou, sides_iou, to_centers, to_corners
from cvpipe.losses.classification import softmax_cross_entropy

UNITS = 10.0
"""Scale of smooth L1: errors are measured in tenths of the input. In units of the whole input all
errors would be below 1, in the flat quadratic part of the loss.
"""


def localization_loss(
    logits: tf.Tensor, box: tf.Tensor, label: tf.Tensor, target: tf.Tensor, loss: LocalizationLoss
) -> dict[str, tf.Tensor]:
    """Return the parts of the loss, both 0 for images without an object.

    Args:
        logits: float32 [B, K].
        box: float32 [B, 4] in 0…1, as predicted.
        label: int32 [B], −1 for images without an object.
        target: float32 [B, 4], the true boxes.
        loss: the configuration.

    Returns:
        "cross_entropy" and "box", float32 [B].
    """
    has_object = label >= 0
    # A valid box in place of a missing object keeps NaN out of the gradient.
    target = tf.where(has_object[:, tf.newaxis], tf.cast(target, box.dtype), [0.0, 0.0, 1.0, 1.0])
    parts = {
        "cross_entropy": softmax_cross_entropy(logits, tf.maximum(label, 0), loss.label_smoothing),
        "box": loss.box_weight * box_error(box, target, loss),
    }
    return {name: tf.where(has_object, part, 0) for name, part in parts.items()}


def box_error(box: tf.Tensor, target: tf.Tensor, loss: LocalizationLoss) -> tf.Tensor:
    """Return the error of boxes, float32 [B], by `loss.box`; shapes as in `localization_loss`."""
    match loss.box:
        case "smooth_l1":
            return tf.reduce_sum(_smooth_l1(UNITS * (box - to_centers(target))), axis=-1)
        case "iou":
            predicted = tf.unstack(to_corners(box), axis=-1)
            return 1 - sides_iou(predicted, tf.unstack(target, axis=-1))
        case "giou":
            return 1 - giou(to_corners(box), target)
        case "diou":
            return 1 - diou(to_corners(box), target)
        case "ciou":
            return 1 - ciou(to_corners(box), target)


def _smooth_l1(error: tf.Tensor) -> tf.Tensor:
    """Smooth L1 of each number (Girshick 2015, equation 3)."""
    size = tf.abs(error)
    return tf.where(size < 1, tf.square(error) / 2, size - 0.5)
