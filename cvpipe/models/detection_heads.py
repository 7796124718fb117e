"""Heads of detectors, which predict raw outputs for each box from feature maps.

Boxes are ordered by map, from fine to coarse, then by row, cell, and box within the cell.
Dimensions: B images; h, w, C of a feature map; k boxes per cell; D boxes of all maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log, prod
from typing import NamedTuple

import keras

from cvpipe.models.blocks import Style, depthwise_norm, scale_channels
from cvpipe.models.darknet import leaky_conv, leaky_relu
from cvpipe.models.heads import last_kernel
from cvpipe.models.pyramid import SpaceToDepth, upsample_to
from cvpipe.models.random_layers import Dropout


class Part(NamedTuple):
    """An output of a head, with `values` numbers per box."""

    values: int
    bias: float = 0.0
    """Initial value of the biases."""


def prior_bias(probability: float) -> float:
    """Return the bias at which a sigmoid gives `probability` (Lin et al. 2017, section 4.1: 0.01
    for every class).
    """
    return -log((1 - probability) / probability)


def predict_boxes(
    maps: Sequence[keras.KerasTensor],
    boxes: Sequence[int],
    parts: Mapping[str, Part],
    *,
    kernel: int,
    style: Style,
    separable: bool = False,
) -> dict[str, keras.KerasTensor]:
    """Apply a convolution to each map for each of `parts`.

    Args:
        maps: each [B, h, w, C], from fine to coarse.
        boxes: k for each map.
        parts: outputs per box, by name.
        kernel: height and width of the convolutions.
        style: settings of the layers.
        separable: use depthwise separable convolutions, as in SSDLite (Sandler et al. 2018, section
            6.2).

    Returns:
        For each part [B, D, values], float32 under every dtype policy.
    """
    answers: dict[str, list[keras.KerasTensor]] = {name: [] for name in parts}
    for index, (x, count) in enumerate(zip(maps, boxes, strict=True)):
        cells = x.shape[1] * x.shape[2]
        for part, (values, bias) in parts.items():
            name, y, size = f"head{index + 1}_{part}", x, kernel
            if separable:
                y, size = (
                    depthwise_norm(
                        x, kernel, 1, style=style, activation="relu6", name=f"{name}_depthwise"
                    ),
                    1,
                )
            y = keras.layers.Conv2D(
                count * values,
                size,
                padding="same",
                kernel_initializer=last_kernel(style),
                bias_initializer=keras.initializers.Constant(bias),
                dtype="float32",
                name=name,
            )(y)
            answers[part].append(keras.ops.reshape(y, (-1, cells * count, values)))
    return {part: keras.ops.concatenate(found, axis=1) for part, found in answers.items()}


def yolo_v1_head(
    x: keras.KerasTensor, boxes: int, classes: int, *, dropout: float, style: Style
) -> dict[str, keras.KerasTensor]:
    """Apply four convolutions, of which the second halves the map, and two fully connected layers
    (Redmon et al. 2015, figure 3).

    The convolutions keep the number of channels of `x`, and the hidden layer has four times as many
    units; 1024 and 4096 in the paper.

    Args:
        x: [B, h, w, C].
        boxes: number of boxes per cell.
        classes: number of classes.
        dropout: share of the hidden units dropped in training.
        style: settings of the layers; the paper's layers have no norm.

    Returns:
        "boxes" [B, D, 4], "objectness" [B, D] and "logits" [B, cells, classes], float32 under every
        dtype policy; D = cells × boxes, cells = ceil(h / 2) × ceil(w / 2).
    """
    channels = x.shape[-1]
    for index, stride in enumerate((1, 2, 1, 1)):
        x = leaky_conv(x, channels, 3, stride, style=style, name=f"neck_conv{index + 1}")
    cells = x.shape[1] * x.shape[2]
    x = keras.layers.Flatten(name="neck_flatten")(x)
    x = keras.layers.Dense(
        4 * channels, kernel_initializer=style.initializer.kernel(), name="neck_units"
    )(x)
    x = leaky_relu(x, biased=True, name="neck_units_leaky_relu")
    if dropout > 0:
        x = Dropout(dropout, name="neck_dropout")(x)
    shapes = {
        "boxes": (cells * boxes, 4),
        "objectness": (cells * boxes,),
        "logits": (cells, classes),
    }
    return {
        part: _fully_connected(x, shape, style, f"head1_{part}") for part, shape in shapes.items()
    }


def yolo_v2_neck(
    fine: keras.KerasTensor, coarse: keras.KerasTensor, *, style: Style
) -> keras.KerasTensor:
    """Apply two 3×3 convolutions to `coarse`, join `fine` with the result, and apply a third
    (Redmon and Farhadi 2016, section 2).

    The convolutions keep the number of channels of `coarse`. `fine` is reduced to an eighth of its
    channels before space-to-depth: 64 of 512 in the authors' network.

    Args:
        fine: [B, H, W, C'].
        coarse: [B, ceil(H / 2), ceil(W / 2), C].

    Returns:
        [B, ceil(H / 2), ceil(W / 2), C].
    """
    channels = coarse.shape[-1]
    x = leaky_conv(coarse, channels, 3, style=style, name="neck_conv1")
    x = leaky_conv(x, channels, 3, style=style, name="neck_conv2")
    passed = leaky_conv(
        fine, scale_channels(fine.shape[-1], 1 / 8), 1, style=style, name="neck_passthrough"
    )
    passed = SpaceToDepth(name="neck_space_to_depth")(passed)
    x = keras.layers.Concatenate(name="neck_concatenate")([passed, x])
    return leaky_conv(x, channels, 3, style=style, name="neck_conv3")


def yolo_v3_neck(maps: Sequence[keras.KerasTensor], *, style: Style) -> list[keras.KerasTensor]:
    """Apply six convolutions to each map, the coarsest first. The output of the fifth is also an
    input of the next finer map (Redmon and Farhadi 2018, section 2.3).

    `maps` and results are [B, h, w, C] from fine to coarse, with the same shapes.
    """
    necks: list[keras.KerasTensor] = []
    inner = None
    for level in range(len(maps), 0, -1):
        x, name = maps[level - 1], f"neck{level}"
        channels = x.shape[-1]
        half = max(1, channels // 2)
        if inner is not None:
            context = leaky_conv(inner, half, 1, style=style, name=f"{name}_context")
            x = keras.layers.Concatenate(name=f"{name}_concatenate")(
                [upsample_to(context, x, name), x]
            )
        for index in range(5):
            filters, kernel = (half, 1) if index % 2 == 0 else (channels, 3)
            x = leaky_conv(x, filters, kernel, style=style, name=f"{name}_conv{index + 1}")
        inner = x
        necks.insert(0, leaky_conv(x, channels, 3, style=style, name=f"{name}_conv6"))
    return necks


def _fully_connected(
    x: keras.KerasTensor, shape: tuple[int, ...], style: Style, name: str
) -> keras.KerasTensor:
    y = keras.layers.Dense(
        prod(shape), kernel_initializer=last_kernel(style), dtype="float32", name=name
    )(x)
    return keras.ops.reshape(y, (-1, *shape))
