"""Classification: one class per image.

Dimensions: B images, K classes, k of them named in an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from cvpipe import drawing
from cvpipe.config import Classification
from cvpipe.data.sources import Example
from cvpipe.losses.classification import classification_loss, initial_score
from cvpipe.losses.classification import expected_initial_loss as of_untrained
from cvpipe.metrics.classification import ClassificationMetrics
from cvpipe.models.build import classification_network, make_style

PART = {
    "softmax": "cross_entropy",
    "hinge": "hinge",
    "squared_hinge": "squared_hinge",
    "binary": "binary_cross_entropy",
    "focal": "focal",
}
"""The name of the loss's one part, for each `loss.kind`."""
BEST_BY = "accuracy"
"""The validation score whose highest value marks the best checkpoint."""


def build_model(
    config: Classification, classes: tuple[str, ...], synchronized: bool = False
) -> keras.Model:
    """The network: float32 [B, H, W, C] to {"logits": float32 [B, K]}.

    `synchronized` lets BatchNorm's statistics span all replicas, so that a result doesn't depend on
    their number.
    """
    model = config.model
    input_shape = (*config.prepare.size, config.prepare.channels)
    style, normalize = (
        make_style(model, synchronized),
        None if config.prepare.normalize == "given" else config.prepare,
    )
    return classification_network(
        model.backbone,
        input_shape,
        len(classes),
        width=model.width,
        dropout=model.dropout,
        drop_connect=model.drop_connect,
        bias=initial_score(config.loss),
        style=style,
        normalize=normalize,
    )


def encode(example: Example, config: Classification) -> dict[str, tf.Tensor]:
    """An example's labels as fixed-shape targets: {"label": int32 scalar}."""
    return {"label": example["label"]}


def truth(example: Example, config: Classification) -> dict[str, tf.Tensor]:
    """What evaluation compares answers with: the targets."""
    return encode(example, config)


def loss_names(config: Classification) -> tuple[str, ...]:
    """The names of what `loss` returns."""
    return (PART[config.loss.kind],)


def loss(
    outputs: dict[str, tf.Tensor], targets: dict[str, tf.Tensor], config: Classification
) -> dict[str, tf.Tensor]:
    """Return the parts of the loss, float32 [B] each; the train step weighs and sums them."""
    return {
        PART[config.loss.kind]: classification_loss(
            outputs["logits"], targets["label"], config.loss
        )
    }


def average(outputs: dict[str, tf.Tensor], config: Classification) -> dict[str, tf.Tensor]:
    """What several networks, or one network for several views of each image, answer together.

    Args:
        outputs: {"logits": float32 [M, B, K]} of M networks or views.

    Returns:
        {"logits": float32 [B, K]}, whose probabilities in `predict` are the means of the M
            probabilities.
    """
    logits = outputs["logits"]
    if _is_one_of_many(config):
        members = tf.cast(tf.shape(logits)[0], logits.dtype)
        return {
            "logits": tf.reduce_logsumexp(tf.nn.log_softmax(logits), axis=0) - tf.math.log(members)
        }
    # The logit ln p − ln(1 − p) of a mean; each mean as a sum of exponentials, so that no tiny
    # probability becomes 0.
    yes, no = (tf.reduce_logsumexp(tf.math.log_sigmoid(sign * logits), axis=0) for sign in (1, -1))
    return {"logits": yes - no}


def settings(config: Classification) -> dict[str, float | int]:
    """What whoever asks an artefact may choose: nothing."""
    return {}


def predict(
    outputs: dict[str, tf.Tensor],
    config: Classification,
    classes: tuple[str, ...],
    extent: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """The answer, the same in evaluation and in the artefact.

    `extent` is unused: a class has no place in the image.

    Probabilities are the softmax of the scores; for losses binary and focal each class has its own
    sigmoid, and they don't add up to 1. Only cross-entropies ask for probabilities: a hinge loss's,
    and focal's, rank the classes and mean no more.

    Returns:
        "class_id" int32 [B], "class_name" string [B], "probability" float32 [B]; "top_class_ids"
        int32 [B, k],
        "top_class_names" string [B, k], "top_probabilities" float32 [B, k], falling;
        "probabilities" float32 [B, K].
    """
    probabilities = (
        tf.nn.softmax(outputs["logits"])
        if _is_one_of_many(config)
        else tf.sigmoid(outputs["logits"])
    )
    top, ids = tf.math.top_k(probabilities, min(config.export.top_k, len(classes)))
    names = tf.gather(tf.constant(classes), ids)
    return {
        "class_id": ids[:, 0],
        "class_name": names[:, 0],
        "probability": top[:, 0],
        "top_class_ids": ids,
        "top_class_names": names,
        "top_probabilities": top,
        "probabilities": probabilities,
    }


def metrics(config: Classification, classes: tuple[str, ...]) -> ClassificationMetrics:
    """What evaluation accumulates."""
    return ClassificationMetrics(classes)


def draw_targets(
    pixels: np.ndarray,
    targets: Mapping[str, np.ndarray],
    config: Classification,
    classes: tuple[str, ...],
) -> Figure:
    """Images uint8 [N, H, W, C] under their classes."""
    return drawing.image_grid(pixels, [classes[label] for label in targets["label"]])


def draw_answers(
    pixels: np.ndarray,
    targets: Mapping[str, np.ndarray],
    predictions: Mapping[str, np.ndarray],
    config: Classification,
    classes: tuple[str, ...],
) -> Figure:
    """Images uint8 [N, H, W, C] under the answers, green and red, with the true class where an
    answer is wrong.
    """
    labels, answers = targets["label"], predictions["class_id"]
    titles = [
        f"{classes[answer]} {probability:.0%}"
        + ("" if answer == label else f"\nis {classes[label]}")
        for label, answer, probability in zip(
            labels, answers, predictions["probability"], strict=True
        )
    ]
    return drawing.image_grid(pixels, titles, labels == answers)


def draw_scores(scores: Mapping[str, Any]) -> dict[str, Figure]:
    """Pictures of what `metrics` counted: the confusion matrix and how far probabilities can be
    trusted.
    """
    return {
        "confusion_matrix": drawing.confusion_matrix(
            np.array(scores["confusion_matrix"]), list(scores["per_class"])
        ),
        "calibration": drawing.reliability(np.array(scores["calibration_bins"])),
    }


def to_answer(predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """The nth of a batch of answers for people and programs: class_id, class_name, probability, and
    top, a list of the same.
    """
    names = [name.decode() for name in predictions["top_class_names"][n]]
    ids, probabilities = (
        predictions["top_class_ids"][n].tolist(),
        predictions["top_probabilities"][n].tolist(),
    )
    top = [
        {"class_id": i, "class_name": name, "probability": p}
        for i, name, p in zip(ids, names, probabilities, strict=True)
    ]
    return {**top[0], "top": top}


def draw_answer(pixels: np.ndarray, answer: Mapping[str, Any]) -> Figure:
    """One image uint8 [H, W, C] under one answer of `to_answer`."""
    return drawing.image_grid(
        pixels[np.newaxis], [f"{answer['class_name']} {answer['probability']:.1%}"]
    )


def expected_initial_loss(config: Classification, classes: int) -> float | None:
    """What an untrained network should lose; without what l1 and l2 add."""
    return of_untrained(config.loss, classes)


def _is_one_of_many(config: Classification) -> bool:
    """True if the classes exclude each other in the loss; False if each is its own question."""
    return config.loss.kind not in ("binary", "focal")
