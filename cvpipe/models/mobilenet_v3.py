"""MobileNetV3 (Howard et al. 2019, tables 1 and 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from cvpipe.models.blocks import Style, add_residual, conv_norm, depthwise_norm, squeeze_excite
from cvpipe.models.mobilenet import divisible_channels
from cvpipe.models.random_layers import linear_decay

Row = tuple[int, int, int, bool, str, int]

RE, HS = "relu", "hard_silu"
LARGE: tuple[Row, ...] = (
    (3, 16, 16, False, RE, 1),
    (3, 64, 24, False, RE, 2),
    (3, 72, 24, False, RE, 1),
    (5, 72, 40, True, RE, 2),
    (5, 120, 40, True, RE, 1),
    (5, 120, 40, True, RE, 1),
    (3, 240, 80, False, HS, 2),
    (3, 200, 80, False, HS, 1),
    (3, 184, 80, False, HS, 1),
    (3, 184, 80, False, HS, 1),
    (3, 480, 112, True, HS, 1),
    (3, 672, 112, True, HS, 1),
    (5, 672, 160, True, HS, 2),
    (5, 960, 160, True, HS, 1),
    (5, 960, 160, True, HS, 1),
)
"""Table 1: kernel, expanded channels, channels, squeeze-and-excitation, activation, stride."""
SMALL: tuple[Row, ...] = (
    (3, 16, 16, True, RE, 2),
    (3, 72, 24, False, RE, 2),
    (3, 88, 24, False, RE, 1),
    (5, 96, 40, True, HS, 2),
    (5, 240, 40, True, HS, 1),
    (5, 240, 40, True, HS, 1),
    (5, 120, 48, True, HS, 1),
    (5, 144, 48, True, HS, 1),
    (5, 288, 96, True, HS, 2),
    (5, 576, 96, True, HS, 1),
    (5, 576, 96, True, HS, 1),
)
"""Table 2."""


def block(
    x: keras.KerasTensor, row: Row, *, drop: float, width: float, style: Style, name: str
) -> keras.KerasTensor:
    """Apply the block of figure 4: 1×1 convolution to more channels, depthwise convolution, gates,
    1×1 convolution. The result is added to `x` if the shapes agree.

    [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), C']. The bottleneck of the gates has a
    quarter of the expanded channels. `drop`: share of examples without the branch in training.
    """
    kernel, expanded, channels, gated, activation, stride = row
    # Rows give the channels at width 1. Scaling both counts keeps the expansion ratio.
    expanded, channels = (divisible_channels(count * width) for count in (expanded, channels))
    settings: dict[str, Any] = {"style": style, "activation": activation}
    y = x
    if expanded != x.shape[-1]:
        y = conv_norm(y, expanded, 1, 1, name=f"{name}_expand", **settings)
    y = depthwise_norm(y, kernel, stride, name=f"{name}_depthwise", **settings)
    if gated:
        squeezed = divisible_channels(expanded / 4)
        y = squeeze_excite(
            y, squeezed, style=style, activation="relu", gate="hard_sigmoid", name=f"{name}_se"
        )
    y = conv_norm(y, channels, 1, 1, style=style, activation=None, name=f"{name}_project")
    if stride > 1 or channels != x.shape[-1]:
        return y
    return add_residual(x, y, drop=drop, name=name)


def mobilenet_v3(
    image: keras.KerasTensor, *, rows: Sequence[Row], width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Apply the rows of a table, between a convolution to 16 channels and one to 6 times the last
    row's channels.

    The fully connected layer of 1280 (small: 1024) units after the pooling is part of the
    classifier.

    Args:
        image: [B, H, W, C].
        rows: LARGE or SMALL.
        width: multiplies the channels, which stay multiples of 8.
        style: settings of the layers.

    Returns:
        {2, 4, 8, 16, 32: [B, ceil(H / stride), ceil(W / stride), C]}.
    """
    x = conv_norm(
        image, divisible_channels(16 * width), 3, 2, style=style, activation=HS, name="stem"
    )
    features, stride = {2: x}, 2
    drops = linear_decay(len(rows), style.stochastic_depth)
    for index, (name, row) in enumerate(zip(names_of_blocks(rows), rows, strict=True)):
        stride *= row[-1]
        x = block(x, row, drop=drops[index], width=width, style=style, name=name)
        features[stride] = x
    last = divisible_channels(6 * x.shape[-1])
    features[stride] = conv_norm(x, last, 1, 1, style=style, activation=HS, name="last")
    return features


def names_of_blocks(rows: Sequence[Row]) -> list[str]:
    """Return the name of each row's block; a stage begins where the map gets smaller."""
    names, stage = [], 1
    for number, row in enumerate(rows, 1):
        stage += row[-1] > 1
        names.append(f"stage{stage}_block{number}")
    return names
