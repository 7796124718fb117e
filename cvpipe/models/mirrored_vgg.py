"""VGG16 with a norm and its mirror image, the halves of SegNet and DeconvNet.

Names of layers of the second half begin with `decoder`. Image tensors are [B, H, W, C].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras

from cvpipe.config.segmentation_heads import UnpoolingKind
from cvpipe.models.blocks import Style, conv_norm, scale_channels
from cvpipe.models.pyramid import Size
from cvpipe.models.upsampling import MaxPoolingWithPositions, Unpooling
from cvpipe.models.vgg import STAGES, stage


class Pooling(NamedTuple):
    """Data for undoing a pooling by 2."""

    positions: keras.KerasTensor
    """uint8 [B, ceil(H / 2), ceil(W / 2), C], from `max_pool`."""
    size: Size
    """H, W of the input of the pooling."""


def encode(
    image: keras.KerasTensor, *, width: float, style: Style
) -> tuple[keras.KerasTensor, list[Pooling]]:
    """Apply the 13 convolutions, each with its norm. Return pool5, [B, ceil(H / 32), ceil(W / 32),
    512 × width], and the poolings in order.
    """
    x, poolings = image, []
    for number in range(1, len(STAGES) + 1):
        x = stage(x, number, width=width, style=style)
        size = tuple(x.shape[1:3])
        x, positions = MaxPoolingWithPositions(name=f"stage{number}_pool")(x)
        poolings.append(Pooling(positions, size))
    return x, poolings


def decode(
    x: keras.KerasTensor,
    poolings: Sequence[Pooling],
    *,
    unpooling: UnpoolingKind,
    output_stride: int,
    whole: bool,
    width: float,
    style: Style,
) -> keras.KerasTensor:
    """Undo the poolings from the last to the first, each followed by the mirrored convolutions.

    The last convolution of a stage has the channels of the next stage.

    Args:
        x: [B, h, w, C], with the size of the last pooling's output.
        poolings: from `encode`.
        unpooling: method (`Unpooling`).
        output_stride: stride of the result, a power of two; finer stages are left out.
        whole: True includes the very last convolution, which SegNet replaces with the classifier.
        width, style: as for `encode`.

    Returns:
        [B, ceil(H / output_stride), ceil(W / output_stride), C'].
    """
    stages = [number for number in range(len(STAGES), 0, -1) if 2 ** (number - 1) >= output_stride]
    for number in stages:
        channels, count = STAGES[number - 1]
        filters = [channels] * (count - 1) + [STAGES[max(number - 2, 0)][0]]
        if number == stages[-1] and not whole:
            filters.pop()
        positions, size = poolings[number - 1]
        x = Unpooling(unpooling, size, name=f"decoder{number}_unpool")(x, positions)
        for index, count in enumerate(filters):
            name = f"decoder{number}_conv{index + 1}"
            x = conv_norm(
                x, scale_channels(count, width), 3, 1, style=style, activation="relu", name=name
            )
    return x
