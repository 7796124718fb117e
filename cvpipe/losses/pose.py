"""Pose losses per image. Keypoints that aren't annotated do not count; an image without keypoints
has loss 0.

Points are (y, x) as fractions of the network's input. Dimensions: B images, P keypoints, h × w
cells of a heatmap.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from cvpipe.config.pose import HeatmapLoss, PoseLoss, SmoothL1Loss, SoftArgmaxLoss
from cvpipe.geometry.heatmaps import gaussians, mean_places


def pose_loss(
    outputs: Mapping[str, tf.Tensor], points: tf.Tensor, counted: tf.Tensor, loss: PoseLoss
) -> dict[str, tf.Tensor]:
    """Return {loss.kind: float32 [B]}, the mean loss over the annotated keypoints.

    Args:
        outputs: "coordinates" float32 [B, P, 2], or "heatmaps" float32 [B, h, w, P].
        points: float32 [B, P, 2], the true positions.
        counted: bool [B, P], False for points that aren't annotated.
        loss: the configuration.
    """
    if isinstance(loss, HeatmapLoss):
        heatmaps = outputs["heatmaps"]
        truth = gaussians(points, tuple(heatmaps.shape[1:3]), loss.sigma)
        cost = tf.reduce_mean(tf.square(heatmaps - truth), [1, 2])
    elif isinstance(loss, SoftArgmaxLoss):
        places, _ = mean_places(outputs["heatmaps"])
        cost = tf.reduce_sum(tf.abs(places - points), -1)
    else:
        error = outputs["coordinates"] - points
        axis_losses = (
            smooth_l1(error, loss.beta) if isinstance(loss, SmoothL1Loss) else tf.square(error)
        )
        cost = tf.reduce_sum(axis_losses, -1)
    return {loss.kind: mean_of_counted(cost, counted)}


def smooth_l1(error: tf.Tensor, beta: float) -> tf.Tensor:
    """Return e² / 2β below β, |e| − β / 2 above (Girshick 2015, equation 3, times β)."""
    size = tf.abs(error)
    return tf.where(size < beta, tf.square(error) / (2 * beta), size - beta / 2)


def mean_of_counted(cost: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    """Return the mean, float32 [B], of the losses [B, P] that count; 0 if none counts."""
    total = tf.reduce_sum(tf.where(counted, cost, 0.0), -1)
    return tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(counted, cost.dtype), -1))
