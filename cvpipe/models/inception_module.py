"""Inception modules as tables: each branch is a sequence of steps, and a module concatenates its
branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import keras

from cvpipe.models.blocks import Style, conv_norm, scale_channels
from cvpipe.models.pooling import MaxPooling2D


class Conv(NamedTuple):
    """A convolution with its norm and ReLU."""

    channels: int
    kernel: int | tuple[int, int]
    stride: int = 1
    valid: bool = False
    """True if not padded; "V" in the figures of Inception-v4."""


class Pool(NamedTuple):
    """A pooling of 3×3 pixels."""

    kind: Literal["max", "avg"]
    stride: int = 1
    valid: bool = False


class Fork(NamedTuple):
    """Branches within a branch."""

    branches: tuple[tuple[Conv, ...], ...]


Branch = Sequence[Conv | Pool | Fork]


def module(
    x: keras.KerasTensor, branches: Sequence[Branch], *, width: float, style: Style, name: str
) -> keras.KerasTensor:
    """Concatenate the outputs of `branches` for `x`: [B, H, W, C] -> [B, h, w, C'].

    `width` multiplies the channels of every convolution.
    """
    outputs = [
        steps(x, branch, width=width, style=style, name=f"{name}_branch{index}")
        for index, branch in enumerate(branches, 1)
    ]
    return keras.layers.Concatenate(name=f"{name}_concat")(outputs)


def steps(
    x: keras.KerasTensor, branch: Branch, *, width: float, style: Style, name: str
) -> keras.KerasTensor:
    """Apply the steps of a branch in sequence."""
    for index, step in enumerate(branch, 1):
        match step:
            case Conv(channels, kernel, stride, valid):
                x = conv_norm(
                    x,
                    scale_channels(channels, width),
                    kernel,
                    stride,
                    style=style,
                    activation="relu",
                    name=f"{name}_conv{index}",
                    padding=0 if valid else None,
                )
            case Pool(kind, stride, valid):
                layer = MaxPooling2D if kind == "max" else keras.layers.AveragePooling2D
                padding = "valid" if valid else "same"
                if kind == "avg" and stride == 1 and style.padding == "torch":
                    # PyTorch's average pooling includes the zeros around the map.
                    x = keras.layers.ZeroPadding2D(1, name=f"{name}_pool{index}_pad")(x)
                    padding = "valid"
                x = layer(3, stride, padding=padding, name=f"{name}_pool{index}")(x)
            case Fork(branches):
                x = module(x, branches, width=width, style=style, name=f"{name}_fork{index}")
    return x
