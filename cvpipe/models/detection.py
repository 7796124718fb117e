"""Construction of detectors from a configuration, and layout of their boxes.

Boxes are [ymin, xmin, ymax, xmax], default boxes [cy, cx, height, width], as fractions of the
network's input. Dimensions: B images; H, W, C of the network's input; D boxes.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import keras
import numpy as np

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
from cvpipe.models import detectors
from cvpipe.models.blocks import Style
from cvpipe.models.build import backbone
from cvpipe.models.detection_heads import prior_bias
from cvpipe.models.pyramid import grids_of

PRIOR = 0.01
"""Initial output of a detector's sigmoids. It is low because nearly every box is empty (Lin et al.
2017, section 4.1, π).
"""


class Grid(NamedTuple):
    """The boxes of one feature map of YOLO."""

    size: tuple[int, int]
    """Rows and columns of cells."""
    anchors: tuple[tuple[float, float], ...]
    """Heights and widths of the anchors as fractions of the network's input."""

    @property
    def boxes(self) -> int:
        """Number of boxes."""
        return prod(self.size) * len(self.anchors)


def detection_network(config: Detection, classes: int, style: Style) -> keras.Model:
    """Build the detector with initial weights: float32 [B, H, W, C] to raw outputs by name
    (`detectors`).

    Raises:
        ConfigError: the backbone lacks a map that the head needs, or the image is too small.
    """
    model, head = config.model, config.model.head
    body = backbone(model.backbone, model.cells)
    shape = (*config.prepare.size, config.prepare.channels)
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
    """Return the layout of SSD's default boxes, one layer for each feature map."""
    head = config.model.head
    assert isinstance(head, Ssd)
    if head.layout != "even":
        return ssd300_layers() if head.layout == "ssd300" else ssd512_layers()
    grids = detectors.ssd_grids(config.prepare.size, _ssd_maps(head, config.prepare.size))
    return layers_for(grids, head.smallest, head.largest, head.aspects)


def ssd_defaults(config: Detection) -> np.ndarray:
    """Return SSD's default boxes, float32 [D, 4]: [cy, cx, height, width]."""
    return default_boxes(ssd_layers(config))


def yolo_grids(config: Detection) -> tuple[Grid, ...]:
    """Return the grids of YOLO's heads, from fine to coarse. YOLOv1 has no anchors: those in
    its grid are placeholders, of which only the number matters.
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


def _ssd_maps(head: Ssd, size: tuple[int, int]) -> detectors.SsdMaps:
    published = {"ssd300": detectors.SSD300, "ssd512": detectors.SSD512}
    return (
        published[head.layout]
        if head.layout != "even"
        else detectors.ssd_maps(size, head.strides, head.coarsest)
    )
