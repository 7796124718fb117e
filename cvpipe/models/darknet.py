"""Published backbones of YOLO, with a leaky ReLU after every convolution.

YOLOv1 (Redmon et al. 2015) has `extraction`, YOLOv2 (Redmon and Farhadi 2016) `darknet19`, and
YOLOv3 (Redmon and Farhadi 2018) `darknet53`. Image tensors are [B, H, W, C].
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from cvpipe.models.blocks import Style, add_residual, conv_norm, scale_channels
from cvpipe.models.norms import Norm
from cvpipe.models.pooling import MaxPooling2D
from cvpipe.models.random_layers import linear_decay

SLOPE = 0.1
"""Slope of the leaky ReLU below 0."""

Convolution = tuple[int, int]
"""Size of the kernel and channels."""

DARKNET19: tuple[tuple[Convolution, ...], ...] = (
    ((3, 32),),
    ((3, 64),),
    ((3, 128), (1, 64), (3, 128)),
    ((3, 256), (1, 128), (3, 256)),
    ((3, 512), (1, 256), (3, 512), (1, 256), (3, 512)),
    ((3, 1024), (1, 512), (3, 1024), (1, 512), (3, 1024)),
)
"""Convolutions of each stage (YOLOv2, table 6). A pooling separates two stages."""

EXTRACTION: tuple[tuple[Convolution, ...], ...] = (
    ((3, 192),),
    ((1, 128), (3, 256), (1, 256), (3, 512)),
    ((1, 256), (3, 512)) * 4 + ((1, 512), (3, 1024)),
    ((1, 512), (3, 1024)) * 2,
)
"""Convolutions of each stage after the stem (YOLOv1, figure 3). A pooling precedes each stage."""


def leaky_conv(
    x: keras.KerasTensor, filters: int, kernel: int, stride: int = 1, *, style: Style, name: str
) -> keras.KerasTensor:
    """Apply `conv_norm` with a leaky ReLU: [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride),
    filters].
    """
    x = conv_norm(x, filters, kernel, stride, style=style, activation=None, name=name)
    return leaky_relu(x, biased=style.norm.kind == "none", name=f"{name}_leaky_relu")


def leaky_relu(x: keras.KerasTensor, *, biased: bool, name: str) -> keras.KerasTensor:
    """Return x if positive, else x / 10. `biased` is True if `x` is the output of a layer with a
    bias.
    """
    # After a bias, TensorFlow's graph optimizer fails on LeakyRelu's gradient and prints errors.
    # Elsewhere LeakyRelu is faster than the maximum.
    return keras.layers.Activation(leaky_maximum if biased else leaky_tenth, name=name)(x)


def extraction(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the first 20 convolutions of YOLOv1 (figure 3), with biases. The paper pretrains them
    on classification (section 2.2).

    Args:
        image: [B, H, W, C].
        width: multiplies the channels.
        style: kernel initializers; the network has no norm.

    Returns:
        {2, 4, 8, 16, 32: [B, ceil(H / stride), ceil(W / stride), 64, 192, 512, 1024, 1024 ×
        width]}.
    """
    style = style._replace(norm=Norm("none"))
    x = leaky_conv(image, scale_channels(64, width), 7, 2, style=style, name="stem")
    features = {2: x}
    for index, convolutions in enumerate(EXTRACTION):
        x = MaxPooling2D(2, padding="same", name=f"stage{index + 1}_pool")(x)
        x = _chain(x, convolutions, width, style, f"stage{index + 1}")
        features[4 * 2**index] = x
    return features


def darknet19(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the network of YOLOv2's table 6 without its last convolution.

    Returns:
        {1, 2, 4, 8, 16, 32: [B, ceil(H / stride), ceil(W / stride), 32, 64, 128, 256, 512, 1024 ×
        width]}.
    """
    x, features = image, {}
    for index, convolutions in enumerate(DARKNET19):
        if index > 0:
            x = MaxPooling2D(2, padding="same", name=f"stage{index + 1}_pool")(x)
        x = _chain(x, convolutions, width, style, f"stage{index + 1}")
        features[2**index] = x
    return features


def darknet53(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the network of YOLOv3's table 1; the features have `darknet19`'s shapes.

    Stochastic depth (`style`) drops residual blocks in training, later blocks more often.
    """
    blocks = (1, 2, 8, 8, 4)
    style = style._replace(branches=sum(blocks))
    drops = linear_decay(style.branches, style.stochastic_depth)
    x = leaky_conv(image, scale_channels(32, width), 3, style=style, name="stem")
    features = {1: x}
    for index, count in enumerate(blocks):
        before = sum(blocks[:index])
        x = _residual_stage(
            x,
            scale_channels(64 * 2**index, width),
            drops[before : before + count],
            style,
            f"stage{index + 1}",
        )
        features[2 ** (index + 1)] = x
    return features


def _chain(
    x: keras.KerasTensor, convolutions: Sequence[Convolution], width: float, style: Style, name: str
) -> keras.KerasTensor:
    for index, (kernel, channels) in enumerate(convolutions):
        x = leaky_conv(
            x, scale_channels(channels, width), kernel, style=style, name=f"{name}_conv{index + 1}"
        )
    return x


def _residual_stage(
    x: keras.KerasTensor, channels: int, drops: Sequence[float], style: Style, name: str
) -> keras.KerasTensor:
    """Halve the map, then apply a residual block for each of `drops`: a 1×1 convolution to half the
    channels, and a 3×3 convolution back to all channels. No activation follows an addition.
    """
    x = leaky_conv(x, channels, 3, 2, style=style, name=f"{name}_down")
    for index, drop in enumerate(drops):
        block = f"{name}_block{index + 1}"
        y = leaky_conv(x, max(1, channels // 2), 1, style=style, name=f"{block}_conv1")
        y = leaky_conv(y, channels, 3, style=style.ending_branch(), name=f"{block}_conv2")
        x = add_residual(x, y, drop=drop, name=block)
    return x


@keras.saving.register_keras_serializable("cvpipe")
def leaky_tenth(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return x if positive, else x / 10."""
    return keras.ops.leaky_relu(x, SLOPE)


@keras.saving.register_keras_serializable("cvpipe")
def leaky_maximum(x: keras.KerasTensor) -> keras.KerasTensor:
    """Compute `leaky_tenth` as a maximum."""
    return keras.ops.maximum(x, SLOPE * x)
