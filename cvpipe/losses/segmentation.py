"""Segmentation losses per image and part.

Losses have the dtype of the logits: float32, except in gradient checks. Pixels labeled IGNORED do
not count; an image with only such pixels has loss 0 and gradient 0.
Dimensions: B images of h × w = P pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log

import numpy as np
import tensorflow as tf

from cvpipe.config.segmentation import (
    DiceLoss,
    PixelFocalLoss,
    PixelLoss,
    PixelSoftmaxLoss,
    SegmentationLoss,
)
from cvpipe.errors import ConfigError
from cvpipe.geometry.masks import IGNORED
from cvpipe.geometry.matching import hard_negatives

PART = {"softmax": "cross_entropy", "focal": "focal", "dice": "dice"}
"""The name of the loss's first part, for each `loss.kind`."""
# Lower bound of 1 − p in the focal loss: a power has no gradient at 0.
_LEAST_DOUBT = 1e-7


def part_names(loss: SegmentationLoss) -> tuple[str, ...]:
    """Return the names of the parts that `segmentation_loss` returns."""
    adds_dice = isinstance(loss, PixelLoss) and loss.dice_weight > 0
    return (PART[loss.kind], "dice") if adds_dice else (PART[loss.kind],)


def check_class_weights(loss: SegmentationLoss, classes: int) -> None:
    """Raise ConfigError if the number of `class_weights` is neither 0 nor that of the classes."""
    if isinstance(loss, PixelLoss) and len(loss.class_weights) not in (0, classes):
        raise ConfigError(
            f"loss.class_weights: {len(loss.class_weights)} numbers for {classes} classes; give one"
            " per class, or omit the key"
        )


def segmentation_loss(
    logits: tf.Tensor, mask: tf.Tensor, loss: SegmentationLoss
) -> dict[str, tf.Tensor]:
    """Compute the parts of the configured loss.

    The cross-entropy or focal loss of an image is the mean over its valid pixels, weighted by
    class: Σ w l / Σ w. With `hard_pixels` below 1, only this fraction of the valid pixels, and at
    least one pixel, counts: the pixels with the largest w l (online hard example mining,
    Shrivastava et al. 2016; for pixels, bootstrapped cross-entropy, Pohlen et al. 2017).

    Args:
        logits: float32 [B, h, w, K].
        mask: uint8 [B, h, w], labels 0 … K − 1, or IGNORED.
        loss: the configuration.

    Returns:
        float32 [B] for each of `part_names`: "cross_entropy" or "focal" in nats; "dice" in 0 … 1,
        multiplied by `dice_weight` if it is an additional part.

    Raises:
        ConfigError: the number of `class_weights` is neither 0 nor K.
    """
    classes = logits.shape[-1]
    check_class_weights(loss, classes)
    images = tf.shape(logits)[0]
    scores = tf.reshape(logits, [images, -1, classes])
    labels = tf.cast(tf.reshape(mask, [images, -1]), tf.int32)
    valid = labels != IGNORED
    labels = tf.where(valid, labels, 0)
    probabilities, truth = tf.nn.softmax(scores), tf.one_hot(labels, classes, dtype=scores.dtype)
    wrong = cross_entropy(scores, probabilities, truth)
    match loss:
        case DiceLoss():
            return {"dice": soft_dice(probabilities, wrong, truth, valid)}
        case PixelSoftmaxLoss() if loss.label_smoothing:
            cost = _smoothed(wrong, scores, loss.label_smoothing)
        case PixelSoftmaxLoss():
            cost = wrong
        case PixelFocalLoss():
            cost = focal(wrong, loss.focal_gamma)
    parts = {PART[loss.kind]: _mean(cost, labels, valid, loss)}
    if loss.dice_weight:
        parts["dice"] = loss.dice_weight * soft_dice(probabilities, wrong, truth, valid)
    return parts


def cross_entropy(scores: tf.Tensor, probabilities: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
    """Compute −ln p of the true class, with an explicit gradient p − g.

    TensorFlow's op computes the softmax again. In deterministic mode it takes twice as long, which
    is a quarter of the time of a training step in segmentation.

    Args:
        scores: float32 [..., K].
        probabilities: p, the softmax of the scores.
        truth: g, [..., K], 1 for the true class, else 0.

    Returns:
        float32 [...], in nats, at most 87, the −ln of the smallest normal float32.
    """

    @tf.custom_gradient
    def of_scores(_: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        cost = -tf.math.log(
            tf.reduce_sum(truth * probabilities, -1) + np.finfo(scores.dtype.as_numpy_dtype).tiny
        )
        return cost, lambda upstream: upstream[..., tf.newaxis] * (probabilities - truth)

    return of_scores(scores)


def focal(wrong: tf.Tensor, gamma: float) -> tf.Tensor:
    """Focal loss of a softmax, −(1 − p)^γ ln p for the true class (Lin et al. 2017, equation 4,
    with a softmax instead of a sigmoid).

    Args:
        wrong: float32 [...], −ln p.
        gamma: γ ≥ 0; 0 gives the cross-entropy.

    Returns:
        float32 [...], in nats.
    """
    return tf.pow(tf.maximum(-tf.math.expm1(-wrong), _LEAST_DOUBT), gamma) * wrong


def soft_dice(
    probabilities: tf.Tensor, wrong: tf.Tensor, truth: tf.Tensor, valid: tf.Tensor
) -> tf.Tensor:
    """Soft Dice loss, 1 − 2 Σ p g / (Σ p² + Σ g²), averaged over the classes present in an image's
    mask (Milletari et al. 2016, section 3).

    p are softmax probabilities, g is 1 for the true class, and sums go over the valid pixels of an
    image. All classes present have equal weight.

    Args:
        probabilities: float32 [B, P, K].
        wrong: float32 [B, P], the cross-entropy of the labels.
        truth: g, [B, P, K], arbitrary for invalid pixels.
        valid: bool [B, P].

    Returns:
        float32 [B] in 0 … 1.
    """
    counts = tf.cast(valid, probabilities.dtype)
    # The probability of the true class as e^(−cross-entropy): its gradient is cheaper than that of
    # a sum over all classes.
    true_probability = counts * tf.exp(-wrong)
    shared, pixels = tf.unstack(
        tf.matmul(truth, tf.stack([true_probability, counts], -1), transpose_a=True), axis=-1
    )
    squares = tf.linalg.matvec(tf.square(probabilities), counts, transpose_a=True)
    present = tf.cast(pixels > 0, counts.dtype)
    overlap = tf.math.divide_no_nan(2 * shared, squares + pixels)
    return tf.math.divide_no_nan(
        tf.reduce_sum(present * (1 - overlap), -1), tf.reduce_sum(present, -1)
    )


def expected_initial_loss(loss: SegmentationLoss, classes: int) -> float | None:
    """Return the loss of an untrained network, whose scores are about equal; None if it depends on
    the masks, as with Dice.

    Args:
        loss: the configuration of the loss; L1 and L2 terms are not included.
        classes: K.
    """
    if "dice" in part_names(loss):
        return None
    return log(classes) * (
        (1 - 1 / classes) ** loss.focal_gamma if isinstance(loss, PixelFocalLoss) else 1
    )


def _smoothed(wrong: tf.Tensor, scores: tf.Tensor, share: float) -> tf.Tensor:
    """Apply label smoothing to the cross-entropy [B, P] (Szegedy et al. 2015, section 7)."""
    of_all = tf.reduce_logsumexp(scores, -1) - tf.reduce_mean(scores, -1)
    return (1 - share) * wrong + share * of_all


def _mean(cost: tf.Tensor, labels: tf.Tensor, valid: tf.Tensor, loss: PixelLoss) -> tf.Tensor:
    """Return the weighted mean [B] of the pixel losses [B, P] over the pixels that count."""
    weight = tf.ones_like(cost)
    if loss.class_weights:
        weight = tf.gather(tf.constant(loss.class_weights, cost.dtype), labels)
    if loss.hard_pixels < 1:
        weighted = tf.stop_gradient(weight * cost)
        hardest = hard_negatives(weighted, valid, valid, loss.hard_pixels, minimum=1)
        # Hard pixel mining never selects NaN. Include NaN losses, so that a diverged network is
        # noticed.
        valid &= hardest | tf.math.is_nan(weighted)
    weight = tf.where(valid, weight, 0)
    return tf.math.divide_no_nan(tf.reduce_sum(weight * cost, 1), tf.reduce_sum(weight, 1))
