"""Pre-activation residual networks (He et al. 2016, Identity mappings; Zagoruyko and Komodakis
2016, Wide residual networks): norm and ReLU precede each convolution, and no activation follows the
addition.
"""

from __future__ import annotations

from functools import partial

import keras

from cvpipe.models.blocks import (
    Style,
    activate,
    add_residual,
    convolution,
    max_pool,
    norm_conv,
    scale_channels,
)
from cvpipe.models.resnet import Branch, stages


def basic(
    x: keras.KerasTensor, filters: int, stride: int, *, style: Style, name: str
) -> keras.KerasTensor:
    """Apply two 3×3 convolutions: [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride),
    filters].
    """
    x = convolution(x, filters, 3, stride, style=style, name=f"{name}_conv1")
    return norm_conv(x, filters, 3, 1, style=style.ending_branch(), name=f"{name}_conv2")


def bottleneck(
    x: keras.KerasTensor, filters: int, stride: int, *, style: Style, name: str
) -> keras.KerasTensor:
    """Apply 1×1, 3×3 and 1×1 convolutions: [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride),
    4 × filters].

    The last convolution has a bias, as in Keras, because no norm follows in the block.
    """
    x = convolution(x, filters, 1, 1, style=style, name=f"{name}_conv1")
    x = norm_conv(x, filters, 3, stride, style=style, name=f"{name}_conv2")
    return norm_conv(
        x, 4 * filters, 1, 1, style=style.ending_branch(), name=f"{name}_conv3", bias=True
    )


def stack(
    x: keras.KerasTensor,
    drops: list[float],
    filters: int,
    stride: int,
    *,
    branch: Branch,
    style: Style,
    name: str,
) -> keras.KerasTensor:
    """Apply a block for each of `drops`, the first with `stride`. If the shape changes, the
    shortcut is a 1×1 convolution of the block's first activation, with a bias for bottlenecks.
    """
    for index, drop in enumerate(drops):
        block = f"{name}_block{index + 1}"
        step = stride if index == 0 else 1
        y = style.norm(x, f"{block}_norm")
        y = activate(y, "relu", style=style, name=block)
        residual = branch(y, filters, step, style=style, name=block)
        if step > 1 or residual.shape[-1] != x.shape[-1]:
            bias = True if branch is bottleneck else None
            shortcut = f"{block}_shortcut"
            x = convolution(y, residual.shape[-1], 1, step, style=style, name=shortcut, bias=bias)
        x = add_residual(x, residual, drop=drop, name=block)
    return x


def preresnet(
    image: keras.KerasTensor,
    *,
    blocks: tuple[int, int, int, int],
    branch: Branch = bottleneck,
    width: float,
    style: Style,
) -> dict[int, keras.KerasTensor]:
    """Build a network for ImageNet, called v2 in Keras.

    A stage's first block has the stride, as in the paper. Keras puts it into the last block of the
    previous stage, which takes 15 % fewer multiplications with the same parameters.

    Args:
        image: [B, H, W, C].
        blocks: number of blocks in each stage.
        branch: convolutions of a block.
        width: multiplies the channels.
        style: settings of the layers.

    Returns:
        {2, 4, 8, 16, 32: [B, ceil(H / stride), ceil(W / stride), 64, 256, 512, 1024, 2048 ×
        width]}, with a norm and ReLU after the last map.
    """
    style = style._replace(branches=sum(blocks))
    stem = convolution(image, scale_channels(64, width), 7, 2, style=style, name="stem", bias=True)
    # As in Keras, no ReLU precedes the pooling, which pads with zeros.
    x = max_pool(stem, 3, 2, padding=1, name="stem_pool")
    apply_stack = partial(stack, branch=branch)
    maps = stages(x, apply_stack, blocks, [64, 128, 256, 512], 4, width=width, style=style)
    return {2: stem, **maps, 32: _last(maps[32], style)}


def small_preresnet(
    image: keras.KerasTensor,
    *,
    blocks: int,
    branch: Branch = basic,
    factor: int = 1,
    width: float,
    style: Style,
) -> dict[int, keras.KerasTensor]:
    """Build a network for CIFAR. WRN-n-k has `factor` k and (n - 4) / 6 `blocks` per stage.

    Only the last convolutions of bottlenecks and their shortcuts have biases.

    Args:
        image: [B, H, W, C].
        blocks: number of blocks in each of the three stages.
        branch: convolutions of a block.
        factor: widening factor of the stages; the stem keeps 16 channels.
        width: multiplies all channels.
        style: settings of the layers.

    Returns:
        {1, 2, 4: [B, ceil(H / stride), ceil(W / stride), 16 | 32 | 64 × factor × width]}, with 4
        times the channels for bottlenecks.
    """
    style = style._replace(branches=3 * blocks)
    x = convolution(image, scale_channels(16, width), 3, 1, style=style, name="stem")
    apply_stack, filters = partial(stack, branch=branch), [16 * factor, 32 * factor, 64 * factor]
    maps = stages(x, apply_stack, [blocks] * 3, filters, 1, width=width, style=style)
    return {**maps, 4: _last(maps[4], style)}


def _last(x: keras.KerasTensor, style: Style) -> keras.KerasTensor:
    return activate(style.norm(x, "last_norm"), "relu", style=style, name="last")
