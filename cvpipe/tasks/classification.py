"""Classification: one class per image.

Dimensions: B images, K classes, k classes in an answer.
"""

from __future__ import annotations

from functools import partial

import keras
import tensorflow as tf

from cvpipe.config import Classification
from cvpipe.data.facts import Facts
from cvpipe.data.sources import Example
from cvpipe.fields import Field
from cvpipe.losses.classification import classification_loss, expected_initial_loss, initial_score
from cvpipe.losses.imitation import soft_cross_entropy
from cvpipe.metrics.classification import ClassificationMetrics
from cvpipe.models.backbones import AUXILIARY
from cvpipe.models.build import classification_network, make_style
from cvpipe.tasks.task import BestBy, Networks, Task, Tensors, mean_of_softmax, supervised

PART = {
    "softmax": "cross_entropy",
    "hinge": "hinge",
    "squared_hinge": "squared_hinge",
    "binary": "binary_cross_entropy",
    "focal": "focal",
}
"""Name of the loss part for each `loss.kind`."""
PROBABILITIES = "top_probabilities"
ANSWERS = {
    "class_id": Field(
        "exact", meaning="[B]: number of the most probable class", first_of="top_class_ids"
    ),
    "class_name": Field(
        "exact", meaning="[B]: name of the most probable class", first_of="top_class_names"
    ),
    "probability": Field("close", meaning="[B]: probability of the most probable class"),
    "top_class_ids": Field(
        "exact", meaning="[B, k]: numbers of the k most probable classes", ranked_by=PROBABILITIES
    ),
    "top_class_names": Field(
        "exact", meaning="[B, k]: names of the k most probable classes", ranked_by=PROBABILITIES
    ),
    PROBABILITIES: Field(
        "close", meaning="[B, k]: probabilities of the k most probable classes, descending"
    ),
    "probabilities": Field("close", meaning="[B, K]: probability of every class, by its number"),
}


def make_task(config: Classification, facts: Facts) -> Task:
    """Create the classification task."""
    names = facts.class_names

    def predict(
        networks: Networks, image: tf.Tensor, extent: tf.Tensor | None = None, **options: tf.Tensor
    ) -> Tensors:
        # `extent` is unused: classes have no position in the image.
        return answer(networks["network"](image, training=False), config, names)

    return Task(
        build=lambda synchronized: {"network": build_network(config, len(names), synchronized)},
        encode=encode,
        updates=(supervised(partial(loss, config=config)),),
        predict=predict,
        answers=ANSWERS,
        metrics=lambda: ClassificationMetrics(names),
        best_by=BestBy("accuracy"),
        combine=partial(combine, config=config),
        initial_loss=partial(initial_loss, config, len(names)),
        imitate=partial(imitate, config=config),
        class_scores=lambda outputs: outputs["logits"],
        answered_scores=lambda answers: tf.math.log(tf.maximum(answers["probabilities"], 1e-30)),
        class_labels=lambda targets: targets["label"],
    )


def build_network(
    config: Classification, num_classes: int, synchronized: bool = False
) -> keras.Model:
    """Build the network: float32 [B, H, W, C] to {"logits": float32 [B, K]}. With auxiliary
    classifiers, it also returns their logits: "auxiliary1" and so on.

    With `synchronized`, BatchNorm statistics are computed over all replicas, so that results don't
    depend on the number of replicas.
    """
    model = config.model
    return classification_network(
        model.backbone,
        (*config.prepare.size, config.prepare.channels),
        num_classes,
        width=model.width,
        dropout=model.dropout,
        drop_connect=model.drop_connect,
        bias=initial_score(config.loss),
        auxiliary=model.auxiliary > 0,
        cells=model.cells,
        style=make_style(model, synchronized),
        normalize=None if config.prepare.normalize == "given" else config.prepare,
    )


def encode(example: Example) -> Tensors:
    """Return an example's targets, {"label": int32 scalar}."""
    return {"label": example["label"]}


def loss(outputs: Tensors, targets: Tensors, config: Classification) -> Tensors:
    """Return the parts of the loss, float32 [B] each. Parts of auxiliary classifiers are multiplied
    by their weight.
    """
    label, part = targets["label"], PART[config.loss.kind]
    return {
        part: classification_loss(outputs["logits"], label, config.loss),
        **{
            name: config.model.auxiliary * classification_loss(logits, label, config.loss)
            for name, logits in outputs.items()
            if name.startswith("auxiliary")
        },
    }


def initial_loss(config: Classification, num_classes: int) -> float:
    """Return the loss of an untrained network, including its auxiliary classifiers."""
    model = config.model
    count = len(AUXILIARY[model.backbone].inputs) if model.auxiliary > 0 else 0
    return expected_initial_loss(config.loss, num_classes) * (1 + count * model.auxiliary)


def combine(outputs: Tensors, config: Classification) -> Tensors:
    """Combine the outputs of several networks, or of one network for several views of an image.

    Args:
        outputs: {"logits": float32 [M, B, K]} of M networks or views.

    Returns:
        {"logits": float32 [B, K]}, the logits of the mean of the M probabilities.
    """
    if not config.has_sigmoids:
        return mean_of_softmax(outputs)
    # The logit of the mean is ln Σ p − ln Σ (1 − p). With logsumexp, tiny probabilities don't
    # underflow to 0.
    logits = outputs["logits"]
    yes, no = (tf.reduce_logsumexp(tf.math.log_sigmoid(sign * logits), axis=0) for sign in (1, -1))
    return {"logits": yes - no}


def imitate(
    outputs: Tensors, teacher: Tensors, temperature: float, config: Classification
) -> tf.Tensor:
    """Return the distillation loss, float32 [B]: the cross-entropy with the teacher's probabilities
    at the temperature T, times T² (Hinton et al. 2015, section 2).
    """
    return soft_cross_entropy(
        outputs["logits"], teacher["logits"], temperature, exclusive=not config.has_sigmoids
    )


def answer(outputs: Tensors, config: Classification, class_names: tuple[str, ...]) -> Tensors:
    """Return the answers, the same in evaluation and in the artifact.

    Probabilities are the softmax of the logits. With the losses "binary" and "focal", each class
    has its own sigmoid, and probabilities don't add up to 1. With hinge and focal losses,
    probabilities rank the classes, but are not calibrated.

    Returns:
        "class_id" int32 [B], "class_name" string [B], "probability" float32 [B]; "top_class_ids"
        int32 [B, k], "top_class_names" string [B, k], "top_probabilities" float32 [B, k],
        decreasing; "probabilities" float32 [B, K].
    """
    logits = outputs["logits"]
    probabilities = tf.sigmoid(logits) if config.has_sigmoids else tf.nn.softmax(logits)
    return top_answers(probabilities, config.export.top_k, class_names)


def top_answers(probabilities: tf.Tensor, most: int, class_names: tuple[str, ...]) -> Tensors:
    """Return the answers described in `answer`, with the `most` most probable classes.

    Args:
        probabilities: float32 [B, K].
        most: number of classes, k; at most K.
        class_names: names of the K classes.
    """
    top, ids = tf.math.top_k(probabilities, min(most, len(class_names)))
    names = tf.gather(tf.constant(class_names), ids)
    return {
        "class_id": ids[:, 0],
        "class_name": names[:, 0],
        "probability": top[:, 0],
        "top_class_ids": ids,
        "top_class_names": names,
        "top_probabilities": top,
        "probabilities": probabilities,
    }
