"""Detection: what is where in an image.

Dimensions: B images, M slots for objects, S slots of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from cvpipe import drawing
from cvpipe.config import Detection
from cvpipe.config.detection import YoloLoss
from cvpipe.config.detection_heads import Ssd, YoloV1, YoloV2
from cvpipe.data.prepare import place_boxes, restore_boxes
from cvpipe.data.sources import Example
from cvpipe.errors import ConfigError
from cvpipe.geometry.boxes import clip
from cvpipe.geometry.suppression import suppress
from cvpipe.losses.detection import Objects, ssd_loss, yolo_loss, yolo_v1_loss
from cvpipe.metrics.detection import DetectionMetrics
from cvpipe.models.build import make_style
from cvpipe.models.detection import (
    decode,
    decode_boxes,
    detection_network,
    ssd_defaults,
    yolo_grids,
    yolo_targets,
    yolo_v1_targets,
)

BEST_BY = "ap50"
"""The validation score whose highest value marks the best checkpoint."""
DRAWN_SCORE = 0.3
"""What is drawn for people: the low threshold that average precision wants would fill pictures with
doubts.
"""


def build_model(
    config: Detection, classes: tuple[str, ...], synchronized: bool = False
) -> keras.Model:
    """The network: float32 [B, H, W, C] to raw outputs by name, see `models.detectors`.

    `synchronized` lets BatchNorm's statistics span all replicas, so that a result doesn't depend on
    their number.
    """
    return detection_network(config, len(classes), make_style(config.model, synchronized))


def encode(example: Example, config: Detection) -> dict[str, tf.Tensor]:
    """An example's objects as targets of fixed shape, M = `data.max_objects`; boxes are fractions
    of the image before it is resized.

    Returns:
        "boxes" float32 [M, 4], zeros in empty slots; "labels" int32 [M], −1 there; "crowd" bool
        [M]; "area" float32 [M], pixels² of
        the object's outline or −1 where nobody knows; "extent" int32 [2], the image's height and
        width, zeros where it isn't decoded.
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


def truth(example: Example, config: Detection) -> dict[str, tf.Tensor]:
    """What evaluation compares answers with: the targets."""
    return encode(example, config)


def loss_names(config: Detection) -> tuple[str, ...]:
    """The names of what `loss` returns."""
    return (
        ("class", "box") if isinstance(config.model.head, Ssd) else ("class", "box", "objectness")
    )


def loss(
    outputs: dict[str, tf.Tensor], targets: dict[str, tf.Tensor], config: Detection
) -> dict[str, tf.Tensor]:
    """Return the parts of the loss, float32 [B] each; the train step weighs and sums them."""
    placed = clip(place_boxes(targets["boxes"], targets["extent"], config.prepare))
    objects = Objects(
        placed, tf.convert_to_tensor(targets["labels"]), tf.convert_to_tensor(targets["crowd"])
    )
    raw, decoded = outputs["boxes"], decode_boxes(outputs["boxes"], config)
    head, weights = config.model.head, config.loss
    if isinstance(head, Ssd):
        assert not isinstance(weights, YoloLoss), "the pipeline refuses other losses"
        return ssd_loss(
            raw,
            outputs["logits"],
            decoded,
            objects,
            tf.constant(ssd_defaults(config)),
            head.overlap,
            weights,
        )
    assert isinstance(weights, YoloLoss), "the pipeline refuses other losses"
    if isinstance(head, YoloV1):
        cells, encoded = yolo_v1_targets(placed, *yolo_grids(config))
        return yolo_v1_loss(
            raw, decoded, outputs["objectness"], outputs["logits"], objects, encoded, cells, weights
        )
    index, encoded = yolo_targets(placed, yolo_grids(config))
    return yolo_loss(
        raw,
        encoded,
        decoded,
        outputs["objectness"],
        outputs["logits"],
        objects,
        index,
        isinstance(head, YoloV2),
        weights,
    )


def average(outputs: dict[str, tf.Tensor], config: Detection) -> dict[str, tf.Tensor]:
    """Detectors don't answer together: there is no mean of two lists of boxes.

    Raises:
        ConfigError: always.
    """
    raise ConfigError("task: detection: several runs can't answer together; give one")


def settings(config: Detection) -> dict[str, float | int]:
    """What whoever asks an artefact may choose, with its defaults."""
    chosen = config.model.head.suppress
    return {
        "score_threshold": chosen.score_threshold,
        "iou_threshold": chosen.iou_threshold,
        "max_detections": chosen.max_detections,
    }


def predict(
    outputs: dict[str, tf.Tensor],
    config: Detection,
    classes: tuple[str, ...],
    extent: tf.Tensor | None = None,
    **asked: tf.Tensor,
) -> dict[str, tf.Tensor]:
    """The answer, the same in evaluation and in the artefact.

    Args:
        extent: int32 [B, 2], height and width of the images before they were resized; None where it
            was to the network's input.
        asked: other values than the pipeline's for some of `settings`.

    Returns:
        "boxes" float32 [B, S, 4], ymin, xmin, ymax, xmax in pixels of those images, S =
        `suppress.max_detections`; "class_ids" int32
        [B, S] and "class_names" string [B, S]; "scores" float32 [B, S] in 0…1, falling; "count"
        int32 [B], how many of the S are
        answers: behind them are zeros, ids −1 and empty names. "image_size" int32 [B, 2] is
            `extent`.
    """
    boxes, scores = decode(outputs, config)
    extent = (
        tf.tile([config.prepare.size], [tf.shape(boxes)[0], 1])
        if extent is None
        else tf.convert_to_tensor(extent)
    )
    whole = clip(restore_boxes(boxes, extent, config.prepare))
    chosen = config.model.head.suppress
    found = suppress(
        whole,
        scores,
        kind=chosen.kind,
        slots=chosen.max_detections,
        candidates=chosen.candidates,
        **{**settings(config), **asked},
    )
    names = tf.gather(tf.constant(["", *classes]), found["classes"] + 1)
    return {
        "boxes": found["boxes"] * tf.tile(tf.cast(extent, tf.float32), [1, 2])[:, tf.newaxis],
        "class_ids": found["classes"],
        "class_names": names,
        "scores": found["scores"],
        "count": found["count"],
        "image_size": extent,
    }


def metrics(config: Detection, classes: tuple[str, ...]) -> DetectionMetrics:
    """What evaluation accumulates."""
    return DetectionMetrics(classes)


def draw_targets(
    pixels: np.ndarray,
    targets: Mapping[str, np.ndarray],
    config: Detection,
    classes: tuple[str, ...],
) -> Figure:
    """Prepared images uint8 [N, H, W, C] with their objects."""
    return drawing.boxes_grid(
        pixels,
        [[_truth(targets, n, pixels.shape[1:3], config, classes)] for n in range(len(pixels))],
    )


def draw_answers(
    pixels: np.ndarray,
    targets: Mapping[str, np.ndarray],
    predictions: Mapping[str, np.ndarray],
    config: Detection,
    classes: tuple[str, ...],
) -> Figure:
    """Prepared images uint8 [N, H, W, C] with their objects in grey, and the answers, from a score
    of DRAWN_SCORE, in green over them.
    """
    size = pixels.shape[1:3]
    marks = []
    for n in range(len(pixels)):
        answers = to_answer(predictions, n)
        shown = [found for found in answers["objects"] if found["score"] >= DRAWN_SCORE]
        extent = predictions["image_size"][n]
        boxes = np.array([found["box"] for found in shown], np.float32).reshape(-1, 4) / np.tile(
            extent, 2
        ).astype(np.float32)
        answered = drawing.Marks(
            _placed(boxes, extent, size, config), [_title(found) for found in shown], drawing.RIGHT
        )
        marks.append(
            [_truth(targets, n, size, config, classes)._replace(colour="#8c959f"), answered]
        )
    return drawing.boxes_grid(pixels, marks)


def draw_scores(scores: Mapping[str, Any]) -> dict[str, Figure]:
    """Pictures of what `metrics` counted: precision over recall of each class, and what kinds of
    errors there are.
    """
    measured, errors = scores["precision_recall"], dict(scores["errors"])
    threshold = errors.pop("score_threshold")
    return {
        "precision_recall": drawing.precision_recall(
            measured["recall"], {"all": measured["precision"], **measured["per_class"]}
        ),
        "errors": drawing.bars(errors, f"answers from a score of {threshold:g}, or objects"),
    }


def to_answer(predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """The nth of a batch of answers: "objects", each with box (ymin, xmin, ymax, xmax, pixels),
    class_id, class_name and score; "count".
    """
    count = int(predictions["count"][n])
    columns = (
        predictions[key][n, :count].tolist()
        for key in ("boxes", "class_ids", "class_names", "scores")
    )
    objects = [
        {"box": box, "class_id": class_id, "class_name": name.decode(), "score": score}
        for box, class_id, name, score in zip(*columns, strict=True)
    ]
    return {"objects": objects, "count": count}


def draw_answer(pixels: np.ndarray, answer: Mapping[str, Any]) -> Figure:
    """One image uint8 [H, W, C] with one answer of `to_answer`, from a score of DRAWN_SCORE."""
    shown = [found for found in answer["objects"] if found["score"] >= DRAWN_SCORE]
    boxes = np.array([found["box"] for found in shown]).reshape(-1, 4)
    return drawing.boxes_grid(
        pixels[np.newaxis],
        [[drawing.Marks(boxes, [_title(found) for found in shown], drawing.RIGHT)]],
    )


def expected_initial_loss(config: Detection, classes: int) -> float | None:
    """None: what an untrained detector should lose depends on what is in the images."""
    return None


def _truth(
    targets: Mapping[str, np.ndarray],
    n: int,
    size: tuple[int, ...],
    config: Detection,
    classes: tuple[str, ...],
) -> drawing.Marks:
    filled = targets["labels"][n] >= 0
    boxes = _placed(targets["boxes"][n][filled], targets["extent"][n], size, config)
    return drawing.Marks(
        boxes, [classes[label] for label in targets["labels"][n][filled]], drawing.RIGHT
    )


def _placed(
    boxes: np.ndarray, extent: np.ndarray, size: tuple[int, ...], config: Detection
) -> np.ndarray:
    """Boxes [n, 4], fractions of an image, in pixels of its prepared version."""
    placed = place_boxes(
        tf.constant(boxes)[tf.newaxis], tf.constant(extent)[tf.newaxis], config.prepare
    )[0]
    return placed.numpy() * np.tile(size, 2)


def _title(found: Mapping[str, Any]) -> str:
    return f"{found['class_name']} {found['score']:.0%}"
