"""Classification losses per example, from logits s.

Dimensions: B examples, K classes; y is an example's label.
"""

from __future__ import annotations

from math import exp, log, log1p

import tensorflow as tf

from cvpipe.config.classification import (
    BinaryLoss,
    ClassificationLoss,
    FocalLoss,
    HingeLoss,
    SoftmaxLoss,
    SquaredHingeLoss,
)

FOCAL_PRIOR = 0.01
"""Initial probability of every class with the focal loss (Lin et al. 2017, section 4.1: π)."""


def classification_loss(
    logits: tf.Tensor, labels: tf.Tensor, loss: ClassificationLoss
) -> tf.Tensor:
    """Compute the configured loss, float32 [B], from logits float32 [B, K] and labels int32 [B] in
    0…K−1.
    """
    match loss:
        case SoftmaxLoss():
            return softmax_cross_entropy(logits, labels, loss.label_smoothing)
        case HingeLoss():
            return hinge(logits, labels)
        case SquaredHingeLoss():
            return squared_hinge(logits, labels)
        case BinaryLoss():
            return binary_cross_entropy(logits, labels)
        case FocalLoss():
            return focal(logits, labels, loss.focal_gamma, loss.focal_alpha)


def softmax_cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float = 0.0
) -> tf.Tensor:
    """Cross-entropy of the softmax, with label smoothing (Szegedy et al. 2015, section 7).

    Args:
        logits: float32 [B, K].
        labels: int32 [B] in 0…K−1.
        label_smoothing: fraction in [0, 1) of each label that is spread evenly over all K classes.

    Returns:
        float32 [B], in nats.
    """
    classes = logits.shape[-1]
    targets = tf.one_hot(
        labels,
        classes,
        on_value=1 - label_smoothing + label_smoothing / classes,
        off_value=label_smoothing / classes,
    )
    return tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)


def hinge(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Multiclass SVM loss, Σ_{j≠y} max(0, s_j − s_y + 1) (Weston and Watkins 1999; CS231n, Linear
    classification).

    Args:
        logits: float32 [B, K].
        labels: int32 [B] in 0…K−1.

    Returns:
        float32 [B], in units of the margin; K − 1 if all scores are equal.
    """
    return tf.reduce_sum(_missing_margins(logits, labels), axis=-1)


def squared_hinge(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Squared hinge loss, Σ_{j≠y} max(0, s_j − s_y + 1)². Shapes as in `hinge`."""
    return tf.reduce_sum(tf.square(_missing_margins(logits, labels)), axis=-1)


def binary_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """One-vs-rest logistic loss, summed over the classes.

    Args:
        logits: float32 [B, K].
        labels: int32 [B] in 0…K−1; the other K − 1 classes are negatives.

    Returns:
        float32 [B], in nats; K ln 2 if all scores are 0.
    """
    return tf.reduce_sum(tf.nn.softplus(-_signed(logits, labels)), axis=-1)


def focal(
    logits: tf.Tensor, labels: tf.Tensor, gamma: float = 2.0, alpha: float = 0.25
) -> tf.Tensor:
    """Focal loss, Σ −α_t (1 − p_t)^γ ln p_t over the classes (Lin et al. 2017, equation 5).

    p_t is the sigmoid of a class's logit if the class is the true one, else 1 minus the sigmoid.

    Args:
        logits: float32 [..., K].
        labels: int32 [...] in 0…K−1, or −1 for background; the other classes are negatives.
        gamma: γ ≥ 0, the focusing parameter.
        alpha: α_t of the true class; the other classes have 1 − alpha.

    Returns:
        float32 [...], in nats, not normalized by the number of objects.
    """
    signed = _signed(logits, labels)
    balance = tf.one_hot(
        labels, logits.shape[-1], on_value=float(alpha), off_value=1.0 - alpha, dtype=logits.dtype
    )
    # (1 − p_t)^γ as an exponential: tf.pow has no gradient at 0, which 1 − p_t reaches in float32.
    easiness = tf.exp(-gamma * tf.nn.softplus(signed))
    return tf.reduce_sum(balance * easiness * tf.nn.softplus(-signed), axis=-1)


def initial_score(loss: ClassificationLoss) -> float:
    """Return the initial bias of the last layer: the logit of FOCAL_PRIOR for focal loss, else
    0.
    """
    return log(FOCAL_PRIOR / (1 - FOCAL_PRIOR)) if isinstance(loss, FocalLoss) else 0.0


def expected_initial_loss(loss: ClassificationLoss, classes: int) -> float:
    """Return the loss of an untrained network, whose scores are all about `initial_score`, without
    L1 and L2 terms.

    Args:
        loss: the configuration of the loss.
        classes: K.
    """
    score = initial_score(loss)
    match loss:
        case SoftmaxLoss():
            return log(classes)
        case HingeLoss() | SquaredHingeLoss():
            return classes - 1.0
        case BinaryLoss():
            return classes * log(2)
        case FocalLoss():
            right = loss.focal_alpha * (1 + exp(score)) ** -loss.focal_gamma * log1p(exp(-score))
            others = (
                (1 - loss.focal_alpha) * (1 + exp(-score)) ** -loss.focal_gamma * log1p(exp(score))
            )
            return right + (classes - 1) * others


def _missing_margins(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return max(0, s_j − s_y + 1), and 0 for j = y: [B, K]."""
    of_label = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    of_others = 1 - of_label
    right = tf.reduce_sum(logits * of_label, axis=-1, keepdims=True)
    return tf.nn.relu(logits - right + 1) * of_others


def _signed(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return s_y for the true class and −s_j for the others: [B, K]. The sigmoid is the probability
    of the right answer for each class.
    """
    return logits * tf.one_hot(
        labels, logits.shape[-1], on_value=1.0, off_value=-1.0, dtype=logits.dtype
    )
