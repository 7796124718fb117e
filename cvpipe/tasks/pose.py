"""Pose: the keypoints of one figure per image.

The target is the figure with the largest box, among figures that aren't crowds and have an
annotated keypoint.

Dimensions: B images, P keypoints.
"""

from __future__ import annotations

from functools import partial

import keras
import tensorflow as tf

from cvpipe.config import Pose
from cvpipe.config.pose import SoftArgmaxLoss
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import place_boxes, restore_boxes
from cvpipe.data.sources import Example
from cvpipe.fields import Field
from cvpipe.geometry.boxes import area
from cvpipe.geometry.heatmaps import mean_places, peaks
from cvpipe.losses.imitation import mean_squares
from cvpipe.losses.pose import pose_loss
from cvpipe.metrics.pose import PoseMetrics
from cvpipe.models.build import make_style
from cvpipe.models.pose import pose_network
from cvpipe.tasks.task import IMAGE_SIZE, BestBy, Networks, Task, Tensors, supervised

ANSWERS = {
    "keypoints": Field(
        "close", meaning="[B, P, 2]: y and x of each keypoint in pixels of the image"
    ),
    "scores": Field("close", meaning="[B, P]: score of each keypoint in 0 to 1"),
    "keypoint_names": Field("exact", meaning="[B, P]: name of each keypoint"),
    "image_size": IMAGE_SIZE,
}


def make_task(config: Pose, facts: Facts) -> Task:
    """Create the pose task."""
    names = facts.keypoint_names

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
        metrics=lambda: PoseMetrics(names),
        best_by=BestBy("pck"),
        combine=combine,
        imitate=mean_squares,
    )


def build_network(config: Pose, points: int, synchronized: bool = False) -> keras.Model:
    """Build the network: float32 [B, H, W, C] to raw outputs by name, as in `models.pose`.

    With `synchronized`, BatchNorm statistics are computed over all replicas, so that results don't
    depend on the number of replicas.
    """
    return pose_network(config, points, make_style(config.model, synchronized))


def encode(example: Example) -> Tensors:
    """Return the largest figure of an example as targets. Coordinates are fractions of the image
    before resizing.

    Returns:
        "keypoints" float32 [P, 2], y and x; "visibility" int32 [P], all 0 if no figure is
        annotated; "box" float32 [4]; "area" float32, area of the figure's outline in pixels², −1 if
        unknown; "extent" int32 [2], height and width of the image, zeros if it isn't decoded.
    """
    annotated = tf.reduce_any(example["visibility"] > 0, axis=-1) & ~example["crowd"]
    size = tf.where(annotated, area(example["boxes"]), -1.0)
    # If no figure is annotated, choose an extra empty figure at the end.
    chosen = tf.argmax(tf.concat([size, [-0.5]], 0))

    def of_figure(values: tf.Tensor) -> tf.Tensor:
        nothing = tf.zeros([1, *values.shape[1:]], values.dtype)
        return tf.ensure_shape(tf.concat([values, nothing], 0)[chosen], values.shape[1:])

    extent = tf.shape(example["image"])[:2] if "image" in example else tf.zeros([2], tf.int32)
    return {
        "keypoints": of_figure(example["keypoints"]),
        "visibility": of_figure(example["visibility"]),
        "box": of_figure(example["boxes"]),
        "area": of_figure(example["area"]),
        "extent": extent,
    }


def loss(outputs: Tensors, targets: Tensors, config: Pose) -> Tensors:
    """Return the parts of the loss, float32 [B] each."""
    points = tf.convert_to_tensor(targets["keypoints"])
    # Place points as boxes without area.
    boxes = tf.concat([points, points], -1)
    placed = place_boxes(boxes, targets["extent"], config.prepare)[..., :2]
    return pose_loss(outputs, placed, tf.convert_to_tensor(targets["visibility"]) > 0, config.loss)


def decode(outputs: Tensors, config: Pose) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode raw outputs to points, float32 [B, P, 2] as fractions of the network's input, and
    their scores, float32 [B, P] in 0…1.
    """
    if "coordinates" in outputs:
        points = outputs["coordinates"]
        return points, tf.ones_like(points[..., 0])
    found = mean_places if isinstance(config.loss, SoftArgmaxLoss) else peaks
    points, scores = found(outputs["heatmaps"])
    return points, tf.clip_by_value(scores, 0, 1)


def answer(
    outputs: Tensors, config: Pose, keypoint_names: tuple[str, ...], extent: tf.Tensor | None = None
) -> Tensors:
    """Return the answers, the same in evaluation and in the artifact.

    Args:
        outputs: raw outputs of the network.
        config: the pipeline.
        keypoint_names: names of the P keypoints.
        extent: int32 [B, 2], height and width of the original images; None for the size of the
            network's input.

    Returns:
        "keypoints" float32 [B, P, 2], y and x in pixels of the original images, where the center of
        the first pixel is at 0.5; "scores" float32 [B, P] in 0…1; "keypoint_names" string [B, P];
        "image_size" int32 [B, 2], the `extent`.
    """
    points, scores = decode(outputs, config)
    images = tf.shape(points)[0]
    if extent is None:
        extent = tf.tile([config.prepare.size], [images, 1])
    extent = tf.convert_to_tensor(extent)
    boxes = restore_boxes(tf.concat([points, points], -1), extent, config.prepare)
    inside = tf.clip_by_value(boxes[..., :2], 0, 1)
    return {
        "keypoints": inside * tf.cast(extent, tf.float32)[:, tf.newaxis],
        "scores": scores,
        "keypoint_names": tf.tile([keypoint_names], [images, 1]),
        "image_size": extent,
    }


def combine(outputs: Tensors) -> Tensors:
    """Return the mean of the outputs of M networks, each [M, B, …]."""
    return {name: tf.reduce_mean(output, 0) for name, output in outputs.items()}
