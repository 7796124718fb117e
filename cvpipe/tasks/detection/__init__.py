"""Detection: boxes and classes of the objects in an image.

Dimensions: B images, M target slots, S answer slots.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from cvpipe.config import Detection
from cvpipe.config.detection import YoloLoss
from cvpipe.config.detection_heads import Ssd, YoloV1, YoloV2
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import place_boxes, restore_boxes
from cvpipe.data.sources import Example
from cvpipe.errors import ConfigError, suggest
from cvpipe.fields import Field
from cvpipe.geometry.boxes import center_inside, clip, has_area
from cvpipe.geometry.suppression import suppress
from cvpipe.losses.detection import BoxTargets, ssd_loss
from cvpipe.losses.imitation import mean_squares
from cvpipe.losses.yolo import V2, V3, yolo_loss, yolo_v1_loss
from cvpipe.metrics.detection import DetectionMetrics
from cvpipe.models.build import make_style
from cvpipe.models.detection import detection_network, ssd_defaults, yolo_grids
from cvpipe.tasks.detection.assign import yolo_targets, yolo_v1_targets
from cvpipe.tasks.detection.decode import class_scores, decode, decode_boxes
from cvpipe.tasks.detection.goals import mislabel, vanish
from cvpipe.tasks.task import IMAGE_SIZE, BestBy, Networks, Option, Task, Tensors, supervised

ANSWERS = {
    "boxes": Field(
        "close",
        meaning=(
            "[B, S, 4]: ymin, xmin, ymax, xmax of each object in pixels of the image; zeros after"
            " the last object"
        ),
        ranked_by="scores",
    ),
    "class_ids": Field(
        "exact",
        meaning="[B, S]: class number of each object; -1 after the last object",
        ranked_by="scores",
    ),
    "class_names": Field("exact", meaning="[B, S]: class name of each object", ranked_by="scores"),
    "scores": Field("close", meaning="[B, S]: score of each object in 0 to 1, descending"),
    "count": Field("exact", meaning="[B]: number of objects"),
    "image_size": IMAGE_SIZE,
}


def make_task(config: Detection, facts: Facts) -> Task:
    """Create the detection task.

    Raises:
        ConfigError: `class_thresholds` has a class that the data doesn't have.
    """
    names = facts.class_names
    for name in config.model.head.suppress.class_thresholds:
        if name not in names:
            raise ConfigError(
                f"model.head.suppress.class_thresholds: the data has no class '{name}';"
                f" {suggest(name, names)}"
            )

    def predict(
        networks: Networks, image: tf.Tensor, extent: tf.Tensor | None = None, **options: tf.Tensor
    ) -> Tensors:
        return answer(networks["network"](image, training=False), config, names, extent, **options)

    return Task(
        build=lambda synchronized: {"network": build_network(config, len(names), synchronized)},
        encode=partial(encode, config=config),
        updates=(supervised(partial(loss, config=config)),),
        predict=predict,
        answers=ANSWERS,
        metrics=lambda: DetectionMetrics(names),
        best_by=BestBy("ap50"),
        options=options_of(config),
        best_thresholds=partial(
            threshold_overrides, configured=config.model.head.suppress.class_thresholds
        ),
        imitate=mean_squares,
        class_scores=partial(class_scores, config=config),
        objectives={
            "vanish": partial(vanish, config=config),
            "mislabel": partial(mislabel, loss=partial(loss, config=config), classes=len(names)),
        },
        class_probabilities=tf.exp,
        objects=partial(objects, config=config),
    )


def build_network(config: Detection, num_classes: int, synchronized: bool = False) -> keras.Model:
    """Build the network: float32 [B, H, W, C] to raw outputs by name, as in `models.detection`.

    With `synchronized`, BatchNorm statistics are computed over all replicas, so that results don't
    depend on the number of replicas.
    """
    return detection_network(config, num_classes, make_style(config.model, synchronized))


def encode(example: Example, config: Detection) -> Tensors:
    """Return an example's objects as targets of fixed shape, with M = `data.max_objects`.

    Boxes are fractions of the image before resizing.

    Returns:
        "boxes" float32 [M, 4], zeros in empty slots; "labels" int32 [M], −1 in empty slots; "crowd"
        bool [M]; "area" float32 [M], area of the object's outline in pixels², −1 if unknown;
        "extent" int32 [2], height and width of the image, zeros if it isn't decoded.
    """
    most = config.data.max_objects

    def padded(values: tf.Tensor, empty: Any) -> tf.Tensor:
        values = values[:most]
        room = [[0, most - tf.shape(values)[0]], *[[0, 0]] * (values.shape.rank - 1)]
        return tf.ensure_shape(
            tf.pad(values, room, constant_values=empty), [most, *values.shape[1:]]
        )

    extent = tf.shape(example["image"])[:2] if "image" in example else tf.zeros([2], tf.int32)
    return {
        "boxes": padded(example["boxes"], 0.0),
        "labels": padded(example["labels"], -1),
        "crowd": padded(example["crowd"], False),
        "area": padded(example["area"], -1.0),
        "extent": extent,
    }


def objects(targets: Tensors, config: Detection) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the classes and the boxes of objects, for `Task.objects`."""
    placed = place_boxes(targets["boxes"], targets["extent"], config.prepare)
    return tf.convert_to_tensor(targets["labels"]), clip(placed)


def loss(outputs: Tensors, targets: Tensors, config: Detection) -> Tensors:
    """Return the parts of the loss, float32 [B] each."""
    labels, placed = objects(targets, config)
    boxes = BoxTargets(placed, labels, tf.convert_to_tensor(targets["crowd"]))
    raw, decoded = outputs["boxes"], decode_boxes(outputs["boxes"], config)
    head, section = config.model.head, config.loss
    if isinstance(head, Ssd):
        assert not isinstance(section, YoloLoss), "the pipeline refuses other losses"
        return ssd_loss(
            raw,
            outputs["logits"],
            decoded,
            boxes,
            tf.constant(ssd_defaults(config)),
            head.overlap,
            section,
        )
    assert isinstance(section, YoloLoss), "the pipeline refuses other losses"
    if isinstance(head, YoloV1):
        cells, encoded = yolo_v1_targets(placed, *yolo_grids(config))
        return yolo_v1_loss(
            raw, decoded, outputs["objectness"], outputs["logits"], boxes, encoded, cells, section
        )
    index, encoded = yolo_targets(placed, yolo_grids(config))
    return yolo_loss(
        raw,
        encoded,
        decoded,
        outputs["objectness"],
        outputs["logits"],
        boxes,
        index,
        V2 if isinstance(head, YoloV2) else V3,
        section,
    )


_SUPPRESSED = {
    "classwise": (
        "if two boxes of a class have a higher IoU, the box with the lower score is dropped"
    ),
    "agnostic": "if two boxes have a higher IoU, the box with the lower score is dropped",
    "soft": "not used by soft suppression",
}
"""Meaning of `iou_threshold` for each `suppress.kind`."""


def options_of(config: Detection) -> dict[str, Option]:
    """Return the serving-time options."""
    chosen = config.model.head.suppress
    return {
        "score_threshold": Option(
            chosen.score_threshold, "only objects with a higher score are returned", 0, 1
        ),
        "iou_threshold": Option(chosen.iou_threshold, _SUPPRESSED[chosen.kind], 0, 1),
        "max_detections": Option(
            chosen.max_detections,
            f"maximum number of objects per image, at most {chosen.max_detections}",
            1,
        ),
    }


def threshold_overrides(
    scores: Mapping[str, Any], configured: Mapping[str, float]
) -> tuple[str, ...]:
    """Return the override that sets the best thresholds; nothing if no class has one. Classes
    without a right answer keep their `configured` threshold.
    """
    found = {
        name: round(own["threshold"], 6)
        for name, own in scores["best_thresholds"].items()
        if not math.isnan(own["threshold"])
    }
    if not found:
        return ()
    merged = json.dumps({**configured, **found}, ensure_ascii=False)
    return (f"model.head.suppress.class_thresholds={merged}",)


def answer(
    outputs: Tensors,
    config: Detection,
    class_names: tuple[str, ...],
    extent: tf.Tensor | None = None,
    **options: tf.Tensor,
) -> Tensors:
    """Return the answers, the same in evaluation and in the artifact.

    Args:
        outputs: raw outputs of the network.
        config: the pipeline.
        class_names: names of the classes.
        extent: int32 [B, 2], height and width of the original images; None for the size of the
            network's input.
        options: values that override the defaults of `options_of`.

    Returns:
        "boxes" float32 [B, S, 4], ymin, xmin, ymax, xmax in pixels of the original images, without
        empty boxes, S = `suppress.max_detections`; "class_ids" int32 [B, S]; "class_names" string
        [B, S]; "scores" float32 [B, S] in 0…1, decreasing; "count" int32 [B], the number of
        objects; "image_size" int32 [B, 2], the `extent`. Slots after the last object have zeros,
        ids −1 and empty names.
    """
    boxes, scores = decode(outputs, config)
    extent = (
        tf.tile([config.prepare.size], [tf.shape(boxes)[0], 1])
        if extent is None
        else tf.convert_to_tensor(extent)
    )
    pixels = tf.tile(tf.cast(extent, tf.float32), [1, 2])[:, tf.newaxis]
    whole = restore_boxes(boxes, extent, config.prepare)
    shown = clip(whole)
    is_answer = has_area(shown * pixels) & center_inside(whole)
    chosen = config.model.head.suppress
    is_answer = is_answer[..., tf.newaxis]
    if chosen.class_thresholds:
        lowest = [chosen.class_thresholds.get(name, 0.0) for name in class_names]
        is_answer &= scores >= tf.constant(lowest, scores.dtype)
    found = suppress(
        shown,
        tf.where(is_answer, scores, 0),
        kind=chosen.kind,
        slots=chosen.max_detections,
        candidates=chosen.candidates,
        **{name: option.default for name, option in options_of(config).items()} | options,
    )
    names = tf.gather(tf.constant(["", *class_names]), found["classes"] + 1)
    return {
        "boxes": found["boxes"] * pixels,
        "class_ids": found["classes"],
        "class_names": names,
        "scores": found["scores"],
        "count": found["count"],
        "image_size": extent,
    }
