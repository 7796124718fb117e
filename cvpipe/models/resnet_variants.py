"""Branches of later residual networks, for `resnet.large`: wide, ResNeXt, SE.

All are bottlenecks: 1×1, 3×3 and 1×1 convolutions. The output has 4 × filters channels, and the 3×3
convolution has the stride.
"""

from __future__ import annotations

import keras

from cvpipe.models.blocks import Style, conv_norm, squeeze_excite
from cvpipe.models.resnet import bottleneck


def wide_bottleneck(
    x: keras.KerasTensor, filters: int, stride: int, *, style: Style, name: str
) -> keras.KerasTensor:
    """Apply a bottleneck whose 3×3 convolution has 2 × filters channels (Zagoruyko and Komodakis
    2016, section 3, WRN-50-2).
    """
    return grouped_bottleneck(x, filters, stride, groups=1, base=128, style=style, name=name)


def grouped_bottleneck(
    x: keras.KerasTensor,
    filters: int,
    stride: int,
    *,
    groups: int,
    base: int,
    style: Style,
    name: str,
) -> keras.KerasTensor:
    """Apply ResNeXt's block (Xie et al. 2017, figure 3c): [B, H, W, C] -> [B, ceil(H / stride),
    ceil(W / stride), 4 × filters].

    `groups` is the cardinality, and `base` the width d of a group in the first stage, which has 64
    `filters`.
    """
    inner = groups * max(1, round(filters * base / 64))
    x = conv_norm(x, inner, 1, 1, style=style, activation="relu", name=f"{name}_conv1")
    x = conv_norm(
        x, inner, 3, stride, style=style, activation="relu", name=f"{name}_conv2", groups=groups
    )
    return conv_norm(
        x, 4 * filters, 1, 1, style=style.ending_branch(), activation=None, name=f"{name}_conv3"
    )


def se_bottleneck(
    x: keras.KerasTensor, filters: int, stride: int, *, style: Style, name: str
) -> keras.KerasTensor:
    """Apply a bottleneck, then squeeze-and-excitation with r = 16 and biases (Hu et al. 2018,
    figure 3).
    """
    return _gated(bottleneck(x, filters, stride, style=style, name=name), style, name)


def se_grouped_bottleneck(
    x: keras.KerasTensor,
    filters: int,
    stride: int,
    *,
    groups: int,
    base: int,
    style: Style,
    name: str,
) -> keras.KerasTensor:
    """Apply `grouped_bottleneck`, then squeeze-and-excitation with r = 16."""
    x = grouped_bottleneck(x, filters, stride, groups=groups, base=base, style=style, name=name)
    return _gated(x, style, name)


def _gated(x: keras.KerasTensor, style: Style, name: str) -> keras.KerasTensor:
    channels = max(1, x.shape[-1] // 16)
    return squeeze_excite(
        x, channels, style=style, activation="relu", gate="sigmoid", name=f"{name}_se"
    )
