"""Localization: one class and one box per image.

Dimensions: B images, n objects of an image, K classes, k classes in an answer.
"""

from __future__ import annotations

from functools import partial

import keras
import tensorflow as tf

from cvpipe.config import Localization
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import place_boxes, restore_boxes
from cvpipe.data.sources import Example
from cvpipe.fields import Field
from cvpipe.geometry.boxes import area, clip, to_corners
from cvpipe.losses.imitation import soft_cross_entropy
from cvpipe.losses.localization import box_error, localization_loss
from cvpipe.metrics.localization import LocalizationMetrics
from cvpipe.models.build import make_style
from cvpipe.models.localization import localization_network
from cvpipe.tasks import classification
from cvpipe.tasks.task import (
    IMAGE_SIZE,
    BestBy,
    Networks,
    Task,
    Tensors,
    mean_of_softmax,
    supervised,
)

ANSWERS = {
    **classification.ANSWERS,
    "box": Field(
        "close", meaning="[B, 4]: ymin, xmin, ymax, xmax of the object in pixels of the image"
    ),
    "image_size": IMAGE_SIZE,
}


def make_task(config: Localization, facts: Facts) -> Task:
    """Create the localization task."""
    names = facts.class_names

    def predict(
        networks: Networks, image: tf.Tensor, extent: tf.Tensor | None = None, **options: tf.Tensor
    ) -> Tensors:
        return answer(networks["network"](image, training=False), config, names, extent)

    return Task(
        build=lambda synchronized: {"network": build_network(config, len(names), synchronized)},
        encode=encode,
        updates=(supervised(partial(loss, config=config)),),
        predict=predict,
        answers=ANSWERS,
        metrics=lambda: LocalizationMetrics(names),
        best_by=BestBy("localization_accuracy"),
        combine=combine,
        imitate=partial(imitate, config=config),
        class_scores=lambda outputs: outputs["logits"],
        class_labels=lambda targets: targets["label"],
        objects=partial(objects, config=config),
    )


def build_network(
    config: Localization, num_classes: int, synchronized: bool = False
) -> keras.Model:
    """Build the network: float32 [B, H, W, C] to raw outputs by name, as in `models.localization`.

    With `synchronized`, BatchNorm statistics are computed over all replicas, so that results don't
    depend on the number of replicas.
    """
    return localization_network(config, num_classes, make_style(config.model, synchronized))


def encode(example: Example) -> Tensors:
    """Return the object with the largest box, excluding crowds, as targets.

    Returns:
        "label" int32 scalar, −1 for an image without objects; "box" float32 [4], ymin, xmin, ymax,
        xmax as fractions of the image before resizing, zeros without an object; "extent" int32 [2],
        height and width of the image, zeros if it isn't decoded.
    """
    sizes = tf.where(example["crowd"], -1.0, area(example["boxes"]))
    # An extra entry of size 0 stands for no object.
    largest = tf.argmax(tf.concat([sizes, [0.0]], 0))
    extent = tf.shape(example["image"])[:2] if "image" in example else tf.zeros([2], tf.int32)
    return {
        "label": tf.gather(tf.concat([example["labels"], [-1]], 0), largest),
        "box": tf.gather(tf.concat([example["boxes"], tf.zeros([1, 4])], 0), largest),
        "extent": extent,
    }


def objects(targets: Tensors, config: Localization) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the class and the box of the object, for `Task.objects`."""
    boxes = tf.convert_to_tensor(targets["box"])[:, tf.newaxis]
    placed = clip(place_boxes(boxes, targets["extent"], config.prepare))
    return tf.convert_to_tensor(targets["label"])[:, tf.newaxis], placed


def loss(outputs: Tensors, targets: Tensors, config: Localization) -> Tensors:
    """Return the parts of the loss, float32 [B] each."""
    labels, placed = objects(targets, config)
    return localization_loss(
        outputs["logits"], outputs["box"], labels[:, 0], placed[:, 0], config.loss
    )


def combine(outputs: Tensors) -> Tensors:
    """Combine the outputs of M networks: mean probabilities and mean box.

    Args:
        outputs: {"logits": float32 [M, B, K], "box": float32 [M, B, 4]}.
    """
    logits = mean_of_softmax({"logits": outputs["logits"]})
    return {**logits, "box": tf.reduce_mean(outputs["box"], axis=0)}


def imitate(
    outputs: Tensors, teacher: Tensors, temperature: float, config: Localization
) -> tf.Tensor:
    """Return the distillation loss, float32 [B].

    The loss is the cross-entropy with the teacher's probabilities at the temperature T, times T²
    (Hinton et al. 2015, section 2), plus the box loss with the teacher's box as the target.
    """
    of_class = soft_cross_entropy(outputs["logits"], teacher["logits"], temperature, exclusive=True)
    box = to_corners(tf.stop_gradient(teacher["box"]))
    return of_class + config.loss.box_weight * box_error(outputs["box"], box, config.loss)


def answer(
    outputs: Tensors,
    config: Localization,
    class_names: tuple[str, ...],
    extent: tf.Tensor | None = None,
) -> Tensors:
    """Return the answers, the same in evaluation and in the artifact.

    Args:
        outputs: raw outputs of the network.
        config: the pipeline.
        class_names: names of the K classes.
        extent: int32 [B, 2], height and width of the original images; None for the size of the
            network's input.

    Returns:
        "class_id" int32 [B], "class_name" string [B], "probability" float32 [B]; "top_class_ids"
        int32 [B, k], "top_class_names" string [B, k], "top_probabilities" float32 [B, k],
        decreasing; "probabilities" float32 [B, K]; "box" float32 [B, 4], ymin, xmin, ymax, xmax in
        pixels of the original images, clipped to them; "image_size" int32 [B, 2], the `extent`.
    """
    probabilities = tf.nn.softmax(outputs["logits"])
    extent = (
        tf.tile([config.prepare.size], [tf.shape(probabilities)[0], 1])
        if extent is None
        else tf.convert_to_tensor(extent)
    )
    boxes = to_corners(outputs["box"])[:, tf.newaxis]
    whole = clip(restore_boxes(boxes, extent, config.prepare))[:, 0]
    return {
        **classification.top_answers(probabilities, config.export.top_k, class_names),
        "box": whole * tf.tile(tf.cast(extent, tf.float32), [1, 2]),
        "image_size": extent,
    }
