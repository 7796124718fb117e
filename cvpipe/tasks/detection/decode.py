"""Decoding of a detector's raw outputs to boxes and scores.

Boxes are [ymin, xmin, ymax, xmax] as fractions of the network's input. Dimensions: B images, D
boxes, K classes.
"""

from __future__ import annotations

import tensorflow as tf

from cvpipe.config import Detection
from cvpipe.config.detection import MultiboxLoss
from cvpipe.config.detection_heads import Ssd, YoloV1, YoloV2
from cvpipe.geometry.encoding import decode_ssd, decode_yolo, decode_yolo1
from cvpipe.models.detection import ssd_defaults, yolo_grids


def decode(outputs: dict[str, tf.Tensor], config: Detection) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode raw outputs to unclipped boxes, float32 [B, D, 4], and class scores, float32 [B, D, K]
    in 0…1.
    """
    return decode_boxes(outputs["boxes"], config), _scores(outputs, config)


def decode_boxes(raw: tf.Tensor, config: Detection) -> tf.Tensor:
    """Decode a head's raw "boxes", float32 [B, D, 4], to unclipped corners of the same shape."""
    if isinstance(config.model.head, Ssd):
        return decode_ssd(raw, tf.constant(ssd_defaults(config)))
    found, begin = [], 0
    for grid in yolo_grids(config):
        of_grid = tf.reshape(
            raw[:, begin : begin + grid.boxes], [-1, *grid.size, len(grid.anchors), 4]
        )
        is_first = isinstance(config.model.head, YoloV1)
        boxes = (
            decode_yolo1(of_grid) if is_first else decode_yolo(of_grid, tf.constant(grid.anchors))
        )
        found.append(tf.reshape(boxes, [-1, grid.boxes, 4]))
        begin += grid.boxes
    return tf.concat(found, axis=1)


def class_scores(outputs: dict[str, tf.Tensor], config: Detection) -> tf.Tensor:
    """Return the logarithm of each class's best score in an image, float32 [B, K]."""
    return tf.math.log(tf.reduce_max(_scores(outputs, config), axis=1) + 1e-7)


def _scores(outputs: dict[str, tf.Tensor], config: Detection) -> tf.Tensor:
    logits = outputs["logits"]
    match config.model.head:
        case Ssd():
            return (
                tf.nn.softmax(logits)[..., 1:]
                if isinstance(config.loss, MultiboxLoss)
                else tf.sigmoid(logits)
            )
        case YoloV1() as head:
            # YOLOv1 predicts probabilities directly (section 2), which may lie outside 0…1.
            classes = tf.repeat(tf.clip_by_value(logits, 0, 1), head.boxes, axis=1)
            return classes * tf.clip_by_value(outputs["objectness"], 0, 1)[..., tf.newaxis]
        case YoloV2():
            return tf.nn.softmax(logits) * tf.sigmoid(outputs["objectness"])[..., tf.newaxis]
        case _:
            return tf.sigmoid(logits) * tf.sigmoid(outputs["objectness"])[..., tf.newaxis]
