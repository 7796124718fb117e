"""Residual networks (He et al. 2015): branches, stacks of blocks, and whole networks.

`small` builds the networks of section 4.2 for small images, and `large` those of table 1 for
ImageNet. As in torchvision, the stride of a bottleneck is in its 3×3 convolution, not in the 1×1
convolution before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import keras

from cvpipe.models.blocks import Style, activate, add_residual, conv_norm, scale_channels, stem_pool
from cvpipe.models.random_layers import linear_decay


class Branch(Protocol):
    """The convolutions of a residual block."""

    def __call__(
        self, x: keras.KerasTensor, filters: int, stride: int, *, style: Style, name: str
    ) -> keras.KerasTensor:
        """Apply the branch to `x`, float [B, H, W, C]."""
        ...


class Shortcut(Protocol):
    """Path from a residual block's input to its output, in the output's shape."""

    def __call__(
        self, x: keras.KerasTensor, channels: int, stride: int, *, style: Style, name: str
    ) -> keras.KerasTensor:
        """Map `x`, float [B, H, W, C], to the shape of the block's output."""
        ...


def basic(
    x: keras.KerasTensor, filters: int, stride: int, *, style: Style, name: str
) -> keras.KerasTensor:
    """Apply two 3×3 convolutions (figure 5, left): [B, H, W, C] -> [B, ceil(H / stride), ceil(W /
    stride), filters].
    """
    x = conv_norm(x, filters, 3, stride, style=style, activation="relu", name=f"{name}_conv1")
    return conv_norm(
        x, filters, 3, 1, style=style.ending_branch(), activation=None, name=f"{name}_conv2"
    )


def bottleneck(
    x: keras.KerasTensor, filters: int, stride: int, *, style: Style, name: str
) -> keras.KerasTensor:
    """Apply 1×1, 3×3 and 1×1 convolutions (figure 5, right): [B, H, W, C] -> [B, ceil(H / stride),
    ceil(W / stride), 4 × filters].
    """
    x = conv_norm(x, filters, 1, 1, style=style, activation="relu", name=f"{name}_conv1")
    x = conv_norm(x, filters, 3, stride, style=style, activation="relu", name=f"{name}_conv2")
    return conv_norm(
        x, 4 * filters, 1, 1, style=style.ending_branch(), activation=None, name=f"{name}_conv3"
    )


def pad_shortcut(
    x: keras.KerasTensor, channels: int, stride: int, *, style: Style, name: str
) -> keras.KerasTensor:
    """Apply option A of section 3.3, which has no parameters: every stride-th pixel, and zeros for
    new channels.

    [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), channels], channels at least C. `style`
    and `name` are unused.
    """
    if stride == 1 and channels == x.shape[-1]:
        return x
    if stride > 1:
        # Average pooling of single pixels is much faster than slicing on CPUs.
        x = keras.layers.AveragePooling2D(1, stride, name=f"{name}_stride")(x)
    return keras.ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, channels - x.shape[-1]]])


def project_shortcut(
    x: keras.KerasTensor, channels: int, stride: int, *, style: Style, name: str
) -> keras.KerasTensor:
    """Apply option B of section 3.3: a 1×1 convolution if the shape changes or `style.projected`.

    [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), channels].
    """
    if stride == 1 and channels == x.shape[-1] and not style.projected:
        return x
    return conv_norm(x, channels, 1, stride, style=style, activation=None, name=f"{name}_shortcut")


def stack(
    x: keras.KerasTensor,
    drops: Sequence[float],
    filters: int,
    stride: int,
    *,
    branch: Branch,
    shortcut: Shortcut | None,
    style: Style,
    name: str,
) -> keras.KerasTensor:
    """Apply a residual block for each of `drops`, the first with `stride`: [B, H, W, C] ->
    [B, ceil(H / stride), ceil(W / stride), C'].

    `drops` are the drop rates of the branches in training. Without a `shortcut`, the blocks are
    plain convolutions.
    """
    for index, drop in enumerate(drops):
        block = f"{name}_block{index + 1}"
        block_stride = stride if index == 0 else 1
        residual = branch(x, filters, block_stride, style=style, name=block)
        if shortcut is None:
            x = residual
        else:
            block_style = style._replace(projected=style.projected and index == 0)
            identity = shortcut(x, residual.shape[-1], block_stride, style=block_style, name=block)
            x = add_residual(identity, residual, drop=drop, name=block)
        x = activate(x, "relu", style=style, name=block)
    return x


def resnet8(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build section 4.2's network with n = 1; the features have `resnet20`'s shapes."""
    return small(image, 1, width, style)


def resnet20(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build section 4.2's network with n = 3: {1, 2, 4: [B, ceil(H / stride), ceil(W / stride), 16
    | 32 | 64 × width]}.
    """
    return small(image, 3, width, style)


def resnet32(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build section 4.2's network with n = 5; the features have `resnet20`'s shapes."""
    return small(image, 5, width, style)


def resnet18(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the 18-layer network of table 1: {2, 4, 8, 16, 32: [B, ceil(H / stride), ceil(W /
    stride), 64, 64, 128, 256, 512 × width]}.
    """
    return large(image, (2, 2, 2, 2), basic, width, style)


def resnet34(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the 34-layer network of table 1; the features have `resnet18`'s shapes."""
    return large(image, (3, 4, 6, 3), basic, width, style)


def resnet50(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the 50-layer network of table 1: {2, 4, 8, 16, 32: [B, ceil(H / stride), ceil(W /
    stride), 64, 256, 512, 1024, 2048 × width]}.
    """
    return large(image, (3, 4, 6, 3), bottleneck, width, style)


def stochastic_depth110(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build section 4.2's network with n = 18 and stochastic depth (Huang et al. 2016, section 4):
    the last branch is dropped with a probability of 0.5, unless `style` has another rate above 0.
    """
    rate = style.stochastic_depth or 0.5
    return small(image, 18, width, style._replace(stochastic_depth=rate))


def small(
    image: keras.KerasTensor,
    blocks: int,
    width: float,
    style: Style,
    shortcut: Shortcut | None = pad_shortcut,
) -> dict[int, keras.KerasTensor]:
    """Build section 4.2's network for small images, with n = `blocks` per stage; the features have
    `resnet20`'s shapes.
    """
    style = style._replace(branches=3 * blocks)
    x = conv_norm(
        image, scale_channels(16, width), 3, 1, style=style, activation="relu", name="stem"
    )
    apply_stack = partial(stack, branch=basic, shortcut=shortcut)
    return stages(x, apply_stack, [blocks] * 3, [16, 32, 64], 1, width=width, style=style)


def large(
    image: keras.KerasTensor,
    blocks: tuple[int, int, int, int],
    branch: Branch,
    width: float,
    style: Style,
    shortcut: Shortcut | None = project_shortcut,
) -> dict[int, keras.KerasTensor]:
    """Build a network of table 1 for ImageNet, with the given `blocks` per stage. The features have
    `resnet50`'s shapes for bottlenecks, else `resnet18`'s.
    """
    style = style._replace(branches=sum(blocks))
    stem = conv_norm(
        image, scale_channels(64, width), 7, 2, style=style, activation="relu", name="stem"
    )
    x = stem_pool(stem, style=style)
    apply_stack = partial(stack, branch=branch, shortcut=shortcut)
    return {
        2: stem,
        **stages(x, apply_stack, blocks, [64, 128, 256, 512], 4, width=width, style=style),
    }


def stages(
    x: keras.KerasTensor,
    apply: Callable[..., keras.KerasTensor],
    blocks: Sequence[int],
    filters: Sequence[int],
    stride: int,
    *,
    width: float,
    style: Style,
) -> dict[int, keras.KerasTensor]:
    """Apply a stack for each stage, all but the first with stride 2.

    Args:
        x: [B, ceil(H / stride), ceil(W / stride), C].
        apply: `stack` with a branch and a shortcut, or another function of the same arguments.
        blocks: number of blocks in each stage.
        filters: channels of each stage at width 1.
        stride: stride of the first stage's map.
        width: multiplies the channels.
        style: settings of the layers.

    Returns:
        The stages' maps by stride.
    """
    drops = linear_decay(sum(blocks), style.stochastic_depth)
    features = {}
    for index, (count, channels) in enumerate(zip(blocks, filters, strict=True)):
        begin = sum(blocks[:index])
        x = apply(
            x,
            drops[begin : begin + count],
            scale_channels(channels, width),
            1 if index == 0 else 2,
            style=style,
            name=f"stage{index + 1}",
        )
        features[stride * 2**index] = x
    return features
