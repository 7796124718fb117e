"""MobileNetV2 (Sandler et al. 2018): inverted residual → stack → network."""

from __future__ import annotations

import keras

from cvpipe.models.blocks import Norm, conv_norm, depthwise_norm

BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Table 2, its columns t (expansion), c (channels), n (blocks), s (stride of the first)."""


def divisible_channels(channels: float) -> int:
    """The nearest multiple of 8 that is at least 8 and at least 90 % of `channels`, as in the authors' code."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def inverted_residual(
    x: keras.KerasTensor, expansion: int, channels: int, stride: int, *, norm: Norm, name: str
) -> keras.KerasTensor:
    """Widen, filter each channel, narrow without activation (table 1; section 3.3).

    [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), channels]; added to `x` where the shapes agree.
    """
    y = x
    if expansion > 1:
        y = conv_norm(y, expansion * x.shape[-1], 1, 1, norm=norm, activation="relu6", name=f"{name}_expand")
    y = depthwise_norm(y, 3, stride, norm=norm, activation="relu6", name=f"{name}_depthwise")
    y = conv_norm(y, channels, 1, 1, norm=norm, activation=None, name=f"{name}_project")
    if stride > 1 or channels != x.shape[-1]:
        return y
    return keras.layers.Add(name=f"{name}_add")([x, y])


def stack(
    x: keras.KerasTensor, expansion: int, channels: int, blocks: int, stride: int, *, norm: Norm, name: str
) -> keras.KerasTensor:
    """One row of table 2: [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), channels]."""
    for index in range(blocks):
        block_stride = stride if index == 0 else 1
        x = inverted_residual(x, expansion, channels, block_stride, norm=norm, name=f"{name}_block{index + 1}")
    return x


def mobilenet_v2(image: keras.KerasTensor, *, width: float, norm: Norm) -> dict[int, keras.KerasTensor]:
    """Table 2.

    Args:
        image: [B, H, W, C].
        width: multiplies the channels, which stay multiples of 8; the last convolution is never below 1280 (section 6.1).
        norm: settings of every BatchNorm.

    Returns:
        {2, 4, 8, 16, 32: [B, ceil(H / stride), ceil(W / stride), 16, 24, 32, 96, 1280]} at width 1: the output of the
        last block at each stride, and of the last convolution.
    """
    x = conv_norm(image, divisible_channels(32 * width), 3, 2, norm=norm, activation="relu6", name="stem")
    features = {}
    stride = 2
    for index, (expansion, channels, blocks, first_stride) in enumerate(BOTTLENECKS):
        x = stack(x, expansion, divisible_channels(channels * width), blocks, first_stride, norm=norm, name=f"stage{index + 1}")
        stride *= first_stride
        features[stride] = x
    last = divisible_channels(1280 * max(1.0, width))
    features[stride] = conv_norm(x, last, 1, 1, norm=norm, activation="relu6", name="last")
    return features
