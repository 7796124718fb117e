"""Detection networks: backbone, neck and head, with initial weights and raw outputs.

All are functional models of float [B, H, W, C]; the same arguments give the same variable paths.
Boxes are ordered as in `detection_heads`. Dimensions: B images; H, W, C of a prepared image; D
boxes; K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras

from cvpipe.config.prepare import Prepare
from cvpipe.models.backbones import Backbone
from cvpipe.models.blocks import Style, scale_channels
from cvpipe.models.build import backbone_features
from cvpipe.models.detection_heads import (
    Part,
    predict_boxes,
    yolo_v1_head,
    yolo_v2_neck,
    yolo_v3_neck,
)
from cvpipe.models.pyramid import (
    Extra,
    Size,
    check_grids,
    extra_maps,
    feature_pyramid,
    grids_of,
    reach,
    take,
)


class SsdMaps(NamedTuple):
    """Feature maps of SSD's head."""

    strides: tuple[int, ...]
    """Strides of the backbone's maps, from fine to coarse."""
    extras: tuple[Extra, ...]
    """Layers that make coarser maps, each from the one before."""


SSD300 = SsdMaps(
    (8, 16),
    (Extra(512), Extra(256), Extra(256, stride=1, padding=0), Extra(256, stride=1, padding=0)),
)
"""For ssd_vgg16 (Liu et al. 2015, figure 2), with 4, 6, 6, 6, 4 and 4 boxes per cell."""

SSD512 = SsdMaps(
    (8, 16), (Extra(512), Extra(256), Extra(256), Extra(256), Extra(256, kernel=4, stride=1))
)
"""For ssd_vgg16 and images of 512×512 (section 3.3), with 4, 6, 6, 6, 6, 4 and 4 boxes per cell."""


def ssd_maps(size: Size, strides: Sequence[int], smallest: int = 1) -> SsdMaps:
    """Return feature maps for SSD: maps of the backbone, and extra maps, each of half the size.

    Args:
        size: height and width of the image in pixels.
        strides: strides of the backbone's maps, from fine to coarse.
        smallest: extra maps are added until the longer side of the coarsest has at most this many
            cells.
    """
    longest = -(-max(size) // strides[-1])
    extras: list[Extra] = []
    while longest > smallest:
        extras.append(Extra(256 if extras else 512))
        longest = extras[-1].pixels(longest)
    return SsdMaps(tuple(strides), tuple(extras))


def ssd_grids(size: Size, maps: SsdMaps) -> tuple[Size, ...]:
    """Return height and width in cells of each feature map for an image of `size` pixels, from fine
    to coarse.

    Raises:
        ConfigError: the image is too small for an extra layer.
    """
    grids = list(grids_of(size, maps.strides))
    for extra in maps.extras:
        rows, columns = grids[-1]
        grids.append((extra.pixels(rows), extra.pixels(columns)))
    return tuple(grids)


def ssd(
    backbone: Backbone,
    input_shape: tuple[int, int, int],
    logits: int,
    *,
    maps: SsdMaps,
    boxes: Sequence[int],
    separable: bool = False,
    pyramid: int = 0,
    bias: float = 0.0,
    width: float = 1.0,
    style: Style = Style(),
    normalize: Prepare | None = None,
) -> keras.Model:
    """Build SSD (Liu et al. 2015) on any backbone.

    Args:
        backbone: function that makes the first feature maps.
        input_shape: H, W, C.
        logits: number of logits per box: K for sigmoids, K + 1 for a softmax with background.
        maps: feature maps of the head.
        boxes: number of boxes per cell, for each map.
        separable: use separable convolutions in extra layers and head: SSDLite (Sandler et al.
            2018, section 6.2). The map of stride 16 is a block's output; the paper takes it from
            inside a block of MobileNetV2.
        pyramid: channels at width 1 of a feature pyramid over the backbone's maps (Lin et al. 2016,
            with 256); 0 for none.
        bias: initial biases of the logits (`prior_bias`).
        width: multiplies the channels.
        style: settings of the layers; those of the paper have no norm.
        normalize: method of the first layer, which normalizes images in [0, 1]; None for no such
            layer.

    Returns:
        A model with outputs "boxes" [B, D, 4], encoded offsets of y, x, h, w from the default
        boxes, and "logits" [B, D, logits], float32.

    Raises:
        ConfigError: the backbone lacks one of the maps, or the image is too small.
    """
    grids = ssd_grids(input_shape[:2], maps)
    image, features = backbone_features(
        backbone, input_shape, width=width, style=style, normalize=normalize
    )
    found = take(features, maps.strides)
    if pyramid > 0:
        found = feature_pyramid(found, scale_channels(pyramid, width), style=style)
    found += extra_maps(found[-1], maps.extras, width=width, separable=separable, style=style)
    check_grids(found, grids)
    parts = {"boxes": Part(4), "logits": Part(logits, bias)}
    return keras.Model(
        image,
        predict_boxes(found, boxes, parts, kernel=3, separable=separable, style=style),
        name="ssd",
    )


def yolo_v1(
    backbone: Backbone,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    stride: int = 64,
    boxes: int = 2,
    dropout: float = 0.5,
    width: float = 1.0,
    style: Style = Style(),
    normalize: Prepare | None = None,
) -> keras.Model:
    """Build YOLO (Redmon et al. 2015) on any backbone. The paper uses extraction, without norms, on
    images of 448×448 pixels.

    Args:
        backbone: function that makes the feature map with half the stride; convolutions are added
            if this map is missing.
        input_shape: H, W, C.
        classes: K.
        stride: pixels per cell; the grid is [ceil(H / stride), ceil(W / stride)].
        boxes: number of boxes per cell.
        dropout: share of the fully connected layer's units dropped in training.
        width, style, normalize: see `ssd`.

    Returns:
        A model with outputs "boxes" [B, D, 4], raw y and x in the cell and √h and √w, "objectness"
        [B, D], and "logits" [B, cells, K], float32; D = cells × boxes.

    Raises:
        ConfigError: the backbone has no map of half the stride.
    """
    image, features = backbone_features(
        backbone, input_shape, width=width, style=style, normalize=normalize
    )
    (x,) = take(reach(features, stride // 2, style), [stride // 2])
    check_grids([x], grids_of(input_shape[:2], [stride // 2]))
    return keras.Model(
        image, yolo_v1_head(x, boxes, classes, dropout=dropout, style=style), name="yolo_v1"
    )


def yolo_v2(
    backbone: Backbone,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    stride: int = 32,
    anchors: int = 5,
    bias: float = 0.0,
    objectness_bias: float = 0.0,
    width: float = 1.0,
    style: Style = Style(),
    normalize: Prepare | None = None,
) -> keras.Model:
    """Build YOLOv2 (Redmon and Farhadi 2016) on any backbone. The paper uses darknet19 on images of
    416×416 pixels.

    Args:
        backbone: function that makes the feature maps with `stride` and half of it; convolutions
            are added if a map is missing.
        input_shape: H, W, C.
        classes: K.
        stride: pixels per cell (`grids_of`).
        anchors: number of anchors per cell.
        bias: initial biases of the logits (`prior_bias`).
        objectness_bias: initial biases of the objectness.
        width, style, normalize: see `ssd`.

    Returns:
        A model with outputs "boxes" [B, D, 4], raw ty, tx, th, tw, "objectness" [B, D] and "logits"
        [B, D, K], float32.

    Raises:
        ConfigError: the backbone lacks one of the maps.
    """
    image, features = backbone_features(
        backbone, input_shape, width=width, style=style, normalize=normalize
    )
    fine, coarse = take(reach(features, stride, style), [stride // 2, stride])
    check_grids([fine, coarse], grids_of(input_shape[:2], [stride // 2, stride]))
    outputs = _yolo_outputs(
        [yolo_v2_neck(fine, coarse, style=style)], anchors, classes, bias, objectness_bias, style
    )
    return keras.Model(image, outputs, name="yolo_v2")


def yolo_v3(
    backbone: Backbone,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    strides: Sequence[int] = (8, 16, 32),
    anchors: int = 3,
    bias: float = 0.0,
    objectness_bias: float = 0.0,
    width: float = 1.0,
    style: Style = Style(),
    normalize: Prepare | None = None,
) -> keras.Model:
    """Build YOLOv3 (Redmon and Farhadi 2018) on any backbone. The paper uses darknet53 on images of
    416×416 pixels.

    Args:
        backbone: function that makes the feature maps; convolutions are added if it has no map as
            coarse as the last of `strides`.
        strides: pixels per cell of each map, from fine to coarse (`grids_of`).
        anchors: number of anchors per cell of a map.
        Others: see `yolo_v2`.

    Returns:
        A model with outputs "boxes" [B, D, 4], raw ty, tx, th, tw, "objectness" [B, D] and "logits"
        [B, D, K], float32.

    Raises:
        ConfigError: the backbone lacks one of the maps.
    """
    image, features = backbone_features(
        backbone, input_shape, width=width, style=style, normalize=normalize
    )
    maps = take(reach(features, strides[-1], style), strides)
    check_grids(maps, grids_of(input_shape[:2], strides))
    outputs = _yolo_outputs(
        yolo_v3_neck(maps, style=style), anchors, classes, bias, objectness_bias, style
    )
    return keras.Model(image, outputs, name="yolo_v3")


def _yolo_outputs(
    maps: Sequence[keras.KerasTensor],
    anchors: int,
    classes: int,
    bias: float,
    objectness_bias: float,
    style: Style,
) -> dict[str, keras.KerasTensor]:
    parts = {
        "boxes": Part(4),
        "objectness": Part(1, objectness_bias),
        "logits": Part(classes, bias),
    }
    outputs = predict_boxes(maps, [anchors] * len(maps), parts, kernel=1, style=style)
    return {**outputs, "objectness": keras.ops.squeeze(outputs["objectness"], -1)}
