"""EfficientNet (Tan and Le 2019), built from stages of MBConv blocks, and scaled in width, depth
and resolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

import keras

from cvpipe.models.blocks import Style, add_residual, conv_norm, depthwise_norm, squeeze_excite
from cvpipe.models.mobilenet import divisible_channels
from cvpipe.models.random_layers import linear_decay

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Table 1, stages 2 to 8: blocks, kernel, stride of the first, expansion, channels."""
SCALES = {
    "efficientnet_b0": (1.0, 1.0),
    "efficientnet_b1": (1.0, 1.1),
    "efficientnet_b2": (1.1, 1.2),
    "efficientnet_b3": (1.2, 1.4),
    "efficientnet_b4": (1.4, 1.8),
    "efficientnet_b5": (1.6, 2.2),
    "efficientnet_b6": (1.8, 2.6),
    "efficientnet_b7": (2.0, 3.1),
}
"""Factors of channels and of blocks per stage, as in the authors' code."""


def mbconv(
    x: keras.KerasTensor,
    channels: int,
    kernel: int,
    stride: int,
    expansion: int,
    *,
    drop: float,
    style: Style,
    name: str,
) -> keras.KerasTensor:
    """Apply MobileNetV2's inverted residual with swish and squeeze-and-excitation. The gates are
    computed by a bottleneck with a quarter of the block's input channels.

    [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), channels]; if the shapes agree, the
    result is added to `x`, except for a share `drop` of the examples in training.
    """
    settings: dict[str, Any] = {"style": style, "activation": "silu"}
    y = x
    if expansion > 1:
        y = conv_norm(y, expansion * x.shape[-1], 1, 1, name=f"{name}_expand", **settings)
    y = depthwise_norm(y, kernel, stride, name=f"{name}_depthwise", **settings)
    squeezed = max(1, x.shape[-1] // 4)
    y = squeeze_excite(
        y, squeezed, style=style, activation="silu", gate="sigmoid", name=f"{name}_se"
    )
    y = conv_norm(y, channels, 1, 1, style=style, activation=None, name=f"{name}_project")
    if stride > 1 or channels != x.shape[-1]:
        return y
    return add_residual(x, y, drop=drop, name=name)


def efficientnet(
    image: keras.KerasTensor, *, scale: tuple[float, float], width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the network of table 1, scaled.

    Strided convolutions pad both sides, as in torchvision. With `conventions: tensorflow` they pad
    as in the authors' code and in Keras.

    Args:
        image: [B, H, W, C].
        scale: factors of channels and of blocks, one of SCALES.
        width: also multiplies the channels; they stay multiples of 8.
        style: settings of the layers.

    Returns:
        {2, 4, 8, 16, 32: [B, ceil(H / stride), ceil(W / stride), 16, 24, 40, 112, 1280]} for B0.
    """
    wide, deep = scale[0] * width, scale[1]
    x = conv_norm(
        image, divisible_channels(32 * wide), 3, 2, style=style, activation="silu", name="stem"
    )
    counts = [ceil(deep * row[0]) for row in STAGES]
    drops = iter(linear_decay(sum(counts), style.stochastic_depth))
    features, total = {}, 2
    for number, (_, kernel, stride, expansion, channels) in enumerate(STAGES, 1):
        for index in range(counts[number - 1]):
            x = mbconv(
                x,
                divisible_channels(channels * wide),
                kernel,
                stride if index == 0 else 1,
                expansion,
                drop=next(drops),
                style=style,
                name=f"stage{number}_block{index + 1}",
            )
        total *= stride
        features[total] = x
    last = divisible_channels(1280 * wide)
    features[total] = conv_norm(x, last, 1, 1, style=style, activation="silu", name="last")
    return features


def blocks_in_order(deep: float) -> Iterator[tuple[str, int]]:
    """Yield the name of each block and its expansion, from the image on; `deep` multiplies the
    blocks of a stage.
    """
    for number, (count, _, _, expansion, _) in enumerate(STAGES, 1):
        for index in range(1, ceil(deep * count) + 1):
            yield f"stage{number}_block{index}", expansion
