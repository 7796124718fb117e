"""Segmentation: the class of every pixel.

Dimensions: B images, H and W the largest height and width among them, K classes.
"""

from __future__ import annotations

from functools import partial

import keras
import tensorflow as tf

from cvpipe.config import Segmentation
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import prepare_mask
from cvpipe.data.sources import Example
from cvpipe.fields import Field
from cvpipe.losses.imitation import soft_cross_entropy
from cvpipe.losses.segmentation import check_class_weights, expected_initial_loss, segmentation_loss
from cvpipe.metrics.segmentation import SegmentationMetrics
from cvpipe.models.build import make_style
from cvpipe.models.segmentation import segmentation_network
from cvpipe.tasks.segmentation.answer import MASK, answer, answer_in_tiles
from cvpipe.tasks.segmentation.png import png_files
from cvpipe.tasks.segmentation.views import in_views
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
    "mask": MASK,
    "image_size": IMAGE_SIZE,
    "class_names": Field("exact", meaning="[B, K]: name of every class, by its number"),
    "shares": Field("counts", meaning="[B, K]: fraction of the pixels of each class"),
    "mean_probabilities": Field(
        "close", meaning="[B, K]: mean probability of each class over the pixels"
    ),
    "mask_bytes": Field("exact", meaning="[B]: the mask as a gray PNG"),
    "overlay_bytes": Field("exact", meaning="[B]: the image with the mask over it, as a PNG"),
}


def make_task(config: Segmentation, facts: Facts) -> Task:
    """Create the segmentation task.

    Raises:
        ConfigError: `loss.class_weights` has a wrong number of weights.
    """
    names = facts.class_names
    # Here, before training, because an error in the graph is reported with its traceback.
    check_class_weights(config.loss, len(names))

    def predict(
        networks: Networks, image: tf.Tensor, extent: tf.Tensor | None = None, **options: tf.Tensor
    ) -> Tensors:
        network = in_views(partial(networks["network"], training=False), config.test_time.views)
        if config.prepare.resize == "tile":
            return answer_in_tiles(network, image, config, names, extent)
        return answer(network(image), config, names, extent)

    def decorate(pixels: tf.Tensor, answers: Tensors) -> Tensors:
        return png_files(pixels, answers["mask"], config.export.png)

    return Task(
        build=lambda synchronized: {"network": build_network(config, len(names), synchronized)},
        encode=partial(encode, config=config),
        truth=truth,
        target_extent=lambda targets: tf.tile(
            [targets["mask"].shape[1:]], [len(targets["mask"]), 1]
        ),
        targets={"mask": MASK},
        updates=(supervised(partial(loss, config=config)),),
        predict=predict,
        answers=ANSWERS,
        metrics=lambda: SegmentationMetrics(names),
        best_by=BestBy("mean_iou"),
        combine=mean_of_softmax,
        initial_loss=lambda: expected_initial_loss(config.loss, len(names)),
        imitate=imitate,
        class_scores=class_scores,
        decorate=decorate if config.export.png else None,
    )


def build_network(
    config: Segmentation, num_classes: int, synchronized: bool = False
) -> keras.Model:
    """Build the network: float32 [B, H, W, C] to {"logits": float32 [B, h, w, K]}.

    With `synchronized`, BatchNorm statistics are computed over all replicas, so that results don't
    depend on the number of replicas.
    """
    return segmentation_network(config, num_classes, make_style(config.model, synchronized))


def encode(example: Example, config: Segmentation) -> Tensors:
    """Return the mask at the resolution of the network's output: {"mask": uint8 [h, w]}."""
    stride = config.model.head.output_stride
    height, width = config.prepare.size
    size = (-(-height // stride), -(-width // stride))
    return {"mask": prepare_mask(example["mask"], config.prepare, size)[..., 0]}


def truth(example: Example) -> Tensors:
    """Return an example's mask at full resolution: {"mask": uint8 [height, width]}."""
    return {"mask": example["mask"][..., 0]}


def loss(outputs: Tensors, targets: Tensors, config: Segmentation) -> Tensors:
    """Return the parts of the loss, float32 [B] each."""
    return segmentation_loss(outputs["logits"], targets["mask"], config.loss)


def class_scores(outputs: Tensors) -> tf.Tensor:
    """Return the mean logit of each class over the pixels predicted as this class, float32 [B, K];
    0 for classes without pixels.
    """
    logits = outputs["logits"]
    answered = tf.one_hot(tf.argmax(logits, axis=-1), logits.shape[-1])
    return tf.math.divide_no_nan(
        tf.reduce_sum(answered * logits, [1, 2]), tf.reduce_sum(answered, [1, 2])
    )


def imitate(outputs: Tensors, teacher: Tensors, temperature: float) -> tf.Tensor:
    """Return the distillation loss, float32 [B]: the cross-entropy with the teacher's probabilities
    at the temperature T, times T², averaged over pixels (Hinton et al. 2015, section 2).
    """
    return soft_cross_entropy(outputs["logits"], teacher["logits"], temperature)
