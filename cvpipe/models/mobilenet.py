"""MobileNetV2 (Sandler et al. 2018), built from stacks of inverted residuals."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from cvpipe.models.blocks import Style, add_residual, conv_norm, depthwise_norm
from cvpipe.models.random_layers import linear_decay

BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Table 2: the columns t (expansion), c (channels), n (blocks), s (stride of the first block)."""


def divisible_channels(channels: float) -> int:
    """Return the nearest multiple of 8 that is at least 8 and at least 90 % of `channels`, as in
    the authors' code.
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def inverted_residual(
    x: keras.KerasTensor,
    expansion: int,
    channels: int,
    stride: int,
    *,
    kernel: int = 3,
    drop: float,
    style: Style,
    name: str,
) -> keras.KerasTensor:
    """Apply a 1×1 convolution to more channels, a depthwise convolution, and a 1×1 convolution
    without activation (table 1; section 3.3).

    [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), channels]; if the shapes agree, the
    result is added to `x`, except for a share `drop` of the examples in training.
    """
    y = x
    if expansion > 1:
        y = conv_norm(
            y, expansion * x.shape[-1], 1, 1, style=style, activation="relu6", name=f"{name}_expand"
        )
    y = depthwise_norm(y, kernel, stride, style=style, activation="relu6", name=f"{name}_depthwise")
    y = conv_norm(y, channels, 1, 1, style=style, activation=None, name=f"{name}_project")
    if stride > 1 or channels != x.shape[-1]:
        return y
    return add_residual(x, y, drop=drop, name=name)


def stack(
    x: keras.KerasTensor,
    expansion: int,
    channels: int,
    drops: Sequence[float],
    stride: int,
    *,
    style: Style,
    name: str,
) -> keras.KerasTensor:
    """Apply one row of table 2, with a block for each of `drops`: [B, H, W, C] -> [B, ceil(H /
    stride), ceil(W / stride), channels].
    """
    for index, drop in enumerate(drops):
        block_stride = stride if index == 0 else 1
        x = inverted_residual(
            x,
            expansion,
            channels,
            block_stride,
            drop=drop,
            style=style,
            name=f"{name}_block{index + 1}",
        )
    return x


def mobilenet_v2(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the network of table 2.

    Args:
        image: [B, H, W, C].
        width: multiplies the channels, which stay multiples of 8; the last convolution is never
            below 1280 (section 6.1).
        style: settings of the layers. Stochastic depth drops residual blocks in training.

    Returns:
        {2, 4, 8, 16, 32: [B, ceil(H / stride), ceil(W / stride), 16, 24, 32, 96, 1280]} at width 1:
        the output of the last block at each stride, and of the last convolution.
    """
    x = conv_norm(
        image, divisible_channels(32 * width), 3, 2, style=style, activation="relu6", name="stem"
    )
    features = {}
    stride = 2
    drops = _drops(width, style.stochastic_depth)
    for index, (expansion, channels, _, first_stride) in enumerate(BOTTLENECKS):
        x = stack(
            x,
            expansion,
            divisible_channels(channels * width),
            drops[index],
            first_stride,
            style=style,
            name=f"stage{index + 1}",
        )
        stride *= first_stride
        features[stride] = x
    last = divisible_channels(1280 * max(1.0, width))
    features[stride] = conv_norm(x, last, 1, 1, style=style, activation="relu6", name="last")
    return features


def _drops(width: float, last: float) -> list[list[float]]:
    """Return the drop rates of the blocks in each row of table 2: `linear_decay` over residual
    blocks.
    """
    before, rows = divisible_channels(32 * width), []
    for _, channels, blocks, stride in BOTTLENECKS:
        after = divisible_channels(channels * width)
        rows.append([stride == 1 and before == after] + [True] * (blocks - 1))
        before = after
    rates = iter(linear_decay(sum(map(sum, rows)), last))
    return [[next(rates) if added else 0.0 for added in row] for row in rows]
