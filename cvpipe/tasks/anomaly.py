"""Anomaly detection: finds images, and pixels in them, that differ from normal training images.

Training uses no gradients. The task has one `Update` without an optimizer. The update's loss
function returns the distances of the images from the network's memory, and stores the batch in the
memory, as BatchNorm updates its statistics. The memory consists of variables of the network, so
resuming, checkpoints and export work as for other networks. The threshold is a variable of the
network, too; `Task.calibrate` sets it after each evaluation of the validation split.

Dimensions: B images, H and W the largest height and width among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cvpipe.config import Anomaly
from cvpipe.config.prepare import Prepare
from cvpipe.data.example import Batch
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import restore_rows
from cvpipe.data.sources import Example
from cvpipe.fields import Field, pad_to
from cvpipe.geometry.masks import IGNORED
from cvpipe.geometry.smoothing import smooth
from cvpipe.metrics.anomaly import AnomalyMetrics, choose_threshold
from cvpipe.models.anomaly import MEMORY, anomaly_network
from cvpipe.models.build import make_style
from cvpipe.models.patch_memory import PatchMemory
from cvpipe.tasks.task import IMAGE_SIZE, BestBy, Networks, Task, Tensors, Update

HEAT_MAP = Field(
    "close",
    padding=-1.0,
    meaning="[B, H, W]: distance of every pixel from normal pixels, at least 0; -1 beyond the"
    " edges of a smaller image",
)
ANSWERS = {
    "anomaly_score": Field("close", meaning="[B]: distance of the image from normal images"),
    "anomaly_threshold": Field("close", meaning="[B]: score above which an image is anomalous"),
    "is_anomalous": Field("exact", meaning="[B]: True if the score is above the threshold"),
    "heat_map": HEAT_MAP,
    "image_size": IMAGE_SIZE,
}


def make_task(config: Anomaly, facts: Facts) -> Task:
    """Create the anomaly detection task."""

    def predict(
        networks: Networks, image: tf.Tensor, extent: tf.Tensor | None = None, **options: tf.Tensor
    ) -> Tensors:
        return answer(networks["network"](image, training=False), config, extent)

    return Task(
        build=lambda synchronized: {"network": build_network(config)},
        encode=encode,
        truth=truth,
        targets={"mask": Field("pixels", padding=IGNORED)},
        updates=(Update(take_in, moves=()),),
        predict=predict,
        answers=ANSWERS,
        metrics=lambda: AnomalyMetrics(facts.class_names),
        best_by=BestBy("image_auroc"),
        calibrate=partial(calibrate, config=config),
    )


def build_network(config: Anomaly) -> keras.Model:
    """Build the network: float32 [B, H, W, C] to raw outputs by name, as in `anomaly_network`."""
    return anomaly_network(config, make_style(config.model, synchronized=False))


def encode(example: Example) -> Tensors:
    """Return the class of the image: {"label": int32 scalar}, 0 if it is normal."""
    return {"label": example["label"]}


def truth(example: Example) -> Tensors:
    """Return the class of the image, and its mask at full resolution, uint8 [height, width]: 0 for
    pixels without a defect, IGNORED for unannotated pixels.
    """
    return {"label": example["label"], "mask": example["mask"][..., 0]}


def take_in(networks: Networks, batch: Batch, seed: tf.Tensor) -> Tensors:
    """Store the normal images of a batch in the memory. Other images aren't stored.

    Returns:
        {"novelty": float32 [b]}: for normal images, the mean distance of their patches from the
        memory before they are stored; for other images 0.
    """
    network: Any = networks["network"]
    # The backbone is frozen: its BatchNorms normalize as in evaluation.
    outputs = network(batch["image"], training=False)
    normal = tf.cast(tf.convert_to_tensor(batch["targets"]["label"]) == 0, tf.float32)
    memory_of(network).take_in(outputs["features"], normal * batch["weight"])
    return {"novelty": normal * tf.reduce_mean(outputs["distances"], [1, 2])}


def memory_of(network: keras.Model) -> PatchMemory:
    """Return the layer that stores normal patches."""
    memory: PatchMemory = network.get_layer(MEMORY)
    return memory


def calibrate(networks: Networks, scores: Mapping[str, Any], config: Anomaly) -> None:
    """Set the threshold from the scores of the validation split, as `AnomalyMetrics` returns
    them.
    """
    normal, *defects = (np.array(own) for own in scores["image_scores"].values())
    network: Any = networks["network"]
    memory_of(network).threshold.assign(
        choose_threshold(
            normal,
            np.concatenate([np.zeros(0), *defects]),
            config.threshold.false_alarms,
            config.threshold.margin,
        )
    )


def answer(outputs: Tensors, config: Anomaly, extent: tf.Tensor | None = None) -> Tensors:
    """Return the answers, the same in evaluation and in the artifact.

    Args:
        outputs: raw outputs of the network.
        config: the pipeline.
        extent: int32 [B, 2], height and width of the original images; None for the size of the
            network's input.

    Returns:
        "heat_map" float32 [B, H, W], in pixels of the original images, −1 beyond the edges of
        smaller images; "anomaly_score" and "anomaly_threshold" float32 [B], UNCALIBRATED before
        calibration; "is_anomalous" bool [B]; "image_size" int32 [B, 2].
    """
    size = config.prepare.size
    maps = tf.image.resize(outputs["distances"][..., tf.newaxis], size)
    maps = smooth(maps, config.model.head.smoothing)
    score = outputs.get("image_distance", tf.reduce_max(maps, [1, 2, 3]))
    if extent is None:
        extent, heat = tf.tile([size], [tf.shape(maps)[0], 1]), maps[..., 0]
    else:
        heat = restore_maps(maps, extent, config.prepare)
    return {
        "anomaly_score": score,
        "anomaly_threshold": outputs["threshold"],
        "is_anomalous": score > outputs["threshold"],
        "heat_map": heat,
        "image_size": tf.convert_to_tensor(extent),
    }


def restore_maps(maps: tf.Tensor, extent: tf.Tensor, prepare: Prepare) -> tf.Tensor:
    """Resize maps with the size of the network's input, float32 [B, H', W', 1], to the original
    images: float32 [B, H, W], −1 beyond the edges of smaller images.
    """
    # An unreadable image has no pixels, but layers need at least one.
    extent = tf.maximum(extent, 1)
    room, rows = tf.reduce_max(extent, 0), prepare.size[0]

    def restore_one(one: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        values, size = one
        strips = tf.map_fn(
            lambda number: restore_rows(values, size, number * rows, rows, prepare)[..., 0],
            tf.range(-(-size[0] // rows)),
            fn_output_signature=tf.TensorSpec([rows, None]),
        )
        whole = tf.reshape(strips, [-1, size[1]])[: size[0]]
        return pad_to(whole, room, HEAT_MAP)

    return tf.map_fn(restore_one, (maps, extent), fn_output_signature=tf.TensorSpec([None, None]))
