"""EfficientNet-Lite (Google 2020): EfficientNet (Tan and Le 2019) with ReLU6 instead of swish and
without squeeze-and-excitation, for processors without fast sigmoids.

Convolutions pad like TensorFlow ("same"), as in the training of the published weights, unless the
style says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

import keras

from cvpipe.models.blocks import Style, conv_norm
from cvpipe.models.mobilenet import divisible_channels, inverted_residual
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
"""Stages 2 to 8 of EfficientNet-B0 (Tan and Le 2019, table 1): blocks, kernel, stride of the first
block, expansion, channels.
"""
EPSILON = 1e-3
"""Added to BatchNorm's variance, as in the authors' code."""


class Size(NamedTuple):
    """Compound scaling. Stem and head aren't scaled; first and last stage keep their depth."""

    width: float
    """Multiplies the channels of the blocks."""
    depth: float
    """Multiplies the blocks of a stage, rounded up."""

    def blocks(self, index: int) -> int:
        """Return the number of blocks of the stage at `index` of STAGES."""
        count = STAGES[index][0]
        return count if index in (0, len(STAGES) - 1) else ceil(self.depth * count)


LITE0, LITE1, LITE2 = Size(1.0, 1.0), Size(1.0, 1.1), Size(1.1, 1.2)
LITE3, LITE4 = Size(1.2, 1.4), Size(1.4, 1.8)
"""EfficientNet-Lite0 to 4, for images of 224, 240, 260, 280 and 300 pixels a side (Google's
table).
"""


def efficientnet_lite0(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build EfficientNet-Lite0 by `efficientnet_lite`."""
    return efficientnet_lite(image, LITE0, width=width, style=style)


def efficientnet_lite1(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build EfficientNet-Lite1 by `efficientnet_lite`."""
    return efficientnet_lite(image, LITE1, width=width, style=style)


def efficientnet_lite2(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build EfficientNet-Lite2 by `efficientnet_lite`."""
    return efficientnet_lite(image, LITE2, width=width, style=style)


def efficientnet_lite(
    image: keras.KerasTensor, size: Size, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build a stem, seven stages of inverted residuals, and a 1×1 convolution to 1280 channels.

    Args:
        image: [B, H, W, C].
        size: compound scaling.
        width: multiplies the channels, which stay multiples of 8.
        style: settings of the layers. Stochastic depth drops residual blocks in training, later
            blocks more often.

    Returns:
        {2, 4, 8, 16, 32: [B, ceil(H / stride), ceil(W / stride), 16, 24, 40, 112, 1280]} for Lite0
        at width 1: the output of the last block at each stride, and of the last convolution.
    """
    style = style._replace(
        norm=style.norm._replace(epsilon=EPSILON), padding=style.padding or "tensorflow"
    )
    stem = divisible_channels(32 * width)
    x = conv_norm(image, stem, 3, 2, style=style, activation="relu6", name="stem")
    features, stride = {}, 2
    counts = [size.blocks(index) for index in range(len(STAGES))]
    drops = iter(linear_decay(sum(counts), style.stochastic_depth))
    for index, (_, kernel, first_stride, expansion, channels) in enumerate(STAGES):
        for number in range(counts[index]):
            x = inverted_residual(
                x,
                expansion,
                divisible_channels(channels * size.width * width),
                first_stride if number == 0 else 1,
                kernel=kernel,
                drop=next(drops),
                style=style,
                name=f"stage{index + 1}_block{number + 1}",
            )
        stride *= first_stride
        features[stride] = x
    last = divisible_channels(1280 * width)
    features[stride] = conv_norm(x, last, 1, 1, style=style, activation="relu6", name="last")
    return features


def blocks_in_order(size: Size) -> Iterator[tuple[str, int]]:
    """Yield the name of each block and its expansion, from input to output."""
    for index, (_, _, _, expansion, _) in enumerate(STAGES):
        for number in range(size.blocks(index)):
            yield f"stage{index + 1}_block{number + 1}", expansion
