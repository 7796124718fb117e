"""From the configuration to a detector, and from its raw outputs to boxes and scores.

Boxes are [ymin, xmin, ymax, xmax] as fractions of the network's input. Dimensions: B images, H, W,
C of the network's input, D boxes, M slots for objects, K classes.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cvpipe.config import Detection
from cvpipe.config.detection import MultiboxLoss
from cvpipe.config.detection_heads import Ssd, YoloV1, YoloV2, YoloV3
from cvpipe.geometry.default_boxes import (
    Layer,
    default_boxes,
    layers_for,
    ssd300_layers,
    ssd512_layers,
)
from cvpipe.geometry.encoding import (
    cells_of,
    decode_ssd,
    decode_yolo,
    decode_yolo1,
    encode_yolo,
    encode_yolo1,
)
from cvpipe.models import detectors
from cvpipe.models.blocks import Style
from cvpipe.models.build import backbone
from cvpipe.models.detection_heads import prior_bias
from cvpipe.models.pyramid import grids_of

PRIOR = 0.01
"""What the sigmoids of an untrained detector answer: nearly every box is empty (Lin et al. 2017,
section 4.1, π).
"""


class Grid(NamedTuple):
    """The boxes of one of YOLO's maps."""

    size: tuple[int, int]
    """Rows and columns of cells."""
    anchors: tuple[tuple[float, float], ...]
    """Heights and widths, as fractions of the network's input."""

    @property
    def boxes(self) -> int:
        """How many of the D boxes are the map's."""
        return prod(self.size) * len(self.anchors)


def detection_network(config: Detection, classes: int, style: Style) -> keras.Model:
    """The detector, with fresh weights: float32 [B, H, W, C] to raw outputs by name, see
    `detectors`.

    Raises:
        ConfigError: the backbone lacks a map that the head looks at, or the image is too small.
    """
    model, head = config.model, config.model.head
    body, shape = backbone(model.backbone), (*config.prepare.size, config.prepare.channels)
    normalize = None if config.prepare.normalize == "given" else config.prepare
    bias = prior_bias(PRIOR)
    match head:
        case Ssd():
            background = isinstance(config.loss, MultiboxLoss)
            return detectors.ssd(
                body,
                shape,
                classes + background,
                maps=_ssd_maps(head, config.prepare.size),
                boxes=[layer.per_cell for layer in ssd_layers(config)],
                separable=head.separable,
                pyramid=head.pyramid,
                bias=0.0 if background else bias,
                width=model.width,
                style=style,
                normalize=normalize,
            )
        case YoloV1():
            return detectors.yolo_v1(
                body,
                shape,
                classes,
                stride=head.stride,
                boxes=head.boxes,
                dropout=model.dropout,
                width=model.width,
                style=style,
                normalize=normalize,
            )
        case YoloV2():
            return detectors.yolo_v2(
                body,
                shape,
                classes,
                stride=head.stride,
                anchors=len(head.anchors),
                objectness_bias=bias,
                width=model.width,
                style=style,
                normalize=normalize,
            )
        case YoloV3():
            return detectors.yolo_v3(
                body,
                shape,
                classes,
                strides=head.strides,
                anchors=len(head.anchors) // len(head.strides),
                objectness_bias=bias,
                width=model.width,
                style=style,
                normalize=normalize,
            )


def ssd_layers(config: Detection) -> tuple[Layer, ...]:
    """Where SSD's default boxes are, a layer for each feature map."""
    head = config.model.head
    assert isinstance(head, Ssd)
    if head.layout != "even":
        return ssd300_layers() if head.layout == "ssd300" else ssd512_layers()
    grids = detectors.ssd_grids(config.prepare.size, _ssd_maps(head, config.prepare.size))
    return layers_for(grids, head.smallest, head.largest, head.aspects)


def ssd_defaults(config: Detection) -> np.ndarray:
    """SSD's default boxes, float32 [D, 4]: [cy, cx, height, width]."""
    return default_boxes(ssd_layers(config))


def yolo_grids(config: Detection) -> tuple[Grid, ...]:
    """The maps of YOLO's heads, from fine to coarse; the first version has boxes without anchors,
    whose sizes here mean nothing.
    """
    head, size = config.model.head, config.prepare.size
    match head:
        case YoloV1():
            return (Grid(grids_of(size, [head.stride])[0], ((1.0, 1.0),) * head.boxes),)
        case YoloV2():
            return (Grid(grids_of(size, [head.stride])[0], head.anchors),)
        case YoloV3():
            share = len(head.anchors) // len(head.strides)
            grids = grids_of(size, head.strides)
            return tuple(
                Grid(grid, head.anchors[n * share : (n + 1) * share])
                for n, grid in enumerate(grids)
            )
        case _:
            raise AssertionError("not a YOLO head")


def decode(outputs: dict[str, tf.Tensor], config: Detection) -> tuple[tf.Tensor, tf.Tensor]:
    """The boxes that raw outputs mean, float32 [B, D, 4], not clipped, and their scores of each
    class, float32 [B, D, K] in 0…1.
    """
    return decode_boxes(outputs["boxes"], config), _scores(outputs, config)


def decode_boxes(raw: tf.Tensor, config: Detection) -> tf.Tensor:
    """The boxes, corners float32 [B, D, 4], that a head's raw "boxes" of this shape mean; not
    clipped.
    """
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


def yolo_targets(boxes: tf.Tensor, grids: tuple[Grid, ...]) -> tuple[tf.Tensor, tf.Tensor]:
    """Which box of YOLOv2 or v3 answers for each object, and what it should predict.

    That of the cell in which the object's centre lies, with the anchor whose size overlaps the
    object's most, were both in one place (Redmon and Farhadi 2018, section 2.1).

    Args:
        boxes: float32 [B, M, 4]; those of empty slots get an answer that means nothing.
        grids: from `yolo_grids`.

    Returns:
        int32 [B, M], positions among the D boxes; float32 [B, M, 4], see `encode_yolo`.
    """
    anchors = tf.constant([anchor for grid in grids for anchor in grid.anchors])
    size = boxes[..., 2:] - boxes[..., :2]
    shared = tf.reduce_prod(tf.minimum(size[..., tf.newaxis, :], anchors), axis=-1)
    union = (
        tf.reduce_prod(size, axis=-1)[..., tf.newaxis] + tf.reduce_prod(anchors, axis=-1) - shared
    )
    best = tf.argmax(shared / union, axis=-1, output_type=tf.int32)
    index, encoded = tf.zeros_like(best), tf.zeros_like(boxes)
    begin = first = 0
    for grid in grids:
        of_grid = (best >= first) & (best < first + len(grid.anchors))
        cells = cells_of(boxes, grid.size)
        position = begin + _flat(cells, grid) * len(grid.anchors) + best - first
        index = tf.where(of_grid, position, index)
        target = encode_yolo(boxes, cells, tf.gather(anchors, best), grid.size)
        encoded = tf.where(of_grid[..., tf.newaxis], target, encoded)
        begin, first = begin + grid.boxes, first + len(grid.anchors)
    return index, encoded


def yolo_v1_targets(boxes: tf.Tensor, grid: Grid) -> tuple[tf.Tensor, tf.Tensor]:
    """The cell of YOLOv1 that answers for each object, int32 [B, M], and what it should predict,
    float32 [B, M, 4]: `encode_yolo1`.
    """
    cells = cells_of(boxes, grid.size)
    return _flat(cells, grid), encode_yolo1(boxes, cells, grid.size)


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
            # Trained by squares, these are probabilities themselves (section 2), and may stray from
            # 0…1.
            classes = tf.repeat(tf.clip_by_value(logits, 0, 1), head.boxes, axis=1)
            return classes * tf.clip_by_value(outputs["objectness"], 0, 1)[..., tf.newaxis]
        case YoloV2():
            return tf.nn.softmax(logits) * tf.sigmoid(outputs["objectness"])[..., tf.newaxis]
        case _:
            return tf.sigmoid(logits) * tf.sigmoid(outputs["objectness"])[..., tf.newaxis]


def _flat(cells: tf.Tensor, grid: Grid) -> tf.Tensor:
    """Rows and columns, int32 [..., 2], as one number, row by row."""
    return cells[..., 0] * grid.size[1] + cells[..., 1]


def _ssd_maps(head: Ssd, size: tuple[int, int]) -> detectors.SsdMaps:
    published = {"ssd300": detectors.SSD300, "ssd512": detectors.SSD512}
    return (
        published[head.layout]
        if head.layout != "even"
        else detectors.ssd_maps(size, head.strides, head.coarsest)
    )
