"""The first deep networks for ImageNet, each as a table of layers: AlexNet, ZFNet, OverFeat.

All convolutions have biases and end in ReLU; the only norms are local response normalizations. The
fully connected layers are in `fully_connected.py`. Shapes are [rows, columns, channels].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras

from cvpipe.models.blocks import Style, conv_norm, max_pool
from cvpipe.models.local_response import LocalResponseNorm
from cvpipe.models.pooling import MaxPooling2D


class Layer(NamedTuple):
    """A convolution, and the normalization and pooling that follow it."""

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    """Pixels of zeros on each side."""
    groups: int = 1
    """Number of groups of a grouped convolution."""
    local: bool = False
    """True if local response normalization follows."""
    pool: tuple[int, int] = (0, 1)
    """Size and stride of the max-pooling that follows; 0 for none."""


TWO_TOWERS = (
    Layer(96, 11, 4, local=True, pool=(3, 2)),
    Layer(256, 5, padding=2, groups=2, local=True, pool=(3, 2)),
    Layer(384, 3, padding=1),
    Layer(384, 3, padding=1, groups=2),
    Layer(256, 3, padding=1, groups=2, pool=(3, 2)),
)
"""AlexNet (Krizhevsky et al. 2012, figure 2), with a group for each of the two GPUs. 227×227 pixels
become 55×55×96, 27×27×96, 27×27×256, 13×13×256, 13×13×384, 13×13×384, 13×13×256, 6×6×256. The
paper states 224×224 pixels, which don't fit the strides.
"""
ONE_TOWER = (
    Layer(64, 11, 4, padding=2, pool=(3, 2)),
    Layer(192, 5, padding=2, pool=(3, 2)),
    Layer(384, 3, padding=1),
    Layer(256, 3, padding=1),
    Layer(256, 3, padding=1, pool=(3, 2)),
)
"""AlexNet on one GPU without local normalization (Krizhevsky 2014, One weird trick; torchvision):
224×224 become 55×55×64, 27×27×192, 13×13×256, 6×6×256.
"""
ZFNET = (
    Layer(96, 7, 2, padding=1, local=True, pool=(3, 2)),
    Layer(256, 5, 2, local=True, pool=(3, 2)),
    Layer(384, 3, padding=1),
    Layer(384, 3, padding=1),
    Layer(256, 3, padding=1, pool=(3, 2)),
)
"""Zeiler and Fergus 2013, figure 3: 224×224 become 110×110×96, 55×55×96, 26×26×256, 13×13×256,
6×6×256. AlexNet's local response normalization replaces the paper's contrast normalization.
"""
OVERFEAT_FAST = (
    Layer(96, 11, 4, pool=(2, 2)),
    Layer(256, 5, pool=(2, 2)),
    Layer(512, 3, padding=1),
    Layer(1024, 3, padding=1),
    Layer(1024, 3, padding=1, pool=(2, 2)),
)
"""Sermanet et al. 2014, table 1: 231×231 become 28×28×96, 12×12×256, 12×12×1024, 6×6×1024."""
OVERFEAT_ACCURATE = (
    Layer(96, 7, 2, pool=(3, 3)),
    Layer(256, 7, pool=(2, 2)),
    Layer(512, 3, padding=1),
    Layer(512, 3, padding=1),
    Layer(1024, 3, padding=1),
    Layer(1024, 3, padding=1, pool=(3, 3)),
)
"""Sermanet et al. 2014, table 3: 221×221 become 36×36×96, 15×15×256, 15×15×1024, 5×5×1024."""


def chain(
    image: keras.KerasTensor,
    layers: Sequence[Layer],
    *,
    ceil: bool = False,
    width: float,
    style: Style,
) -> dict[int, keras.KerasTensor]:
    """Apply the convolutions of a table.

    Args:
        image: [B, H, W, C].
        layers: the table.
        ceil: True keeps pooling windows that end beyond the map, as in Caffe.
        width: multiplies the channels of each group.
        style: kernel initializers; the networks have no norm.

    Returns:
        {stride: the last map of that stride}.
    """
    x, stride, features = image, 1, {}
    for number, layer in enumerate(layers, 1):
        x = conv_norm(
            x,
            layer.groups * max(1, round(layer.channels * width / layer.groups)),
            layer.kernel,
            layer.stride,
            style=style.without_norm(),
            activation="relu",
            name=f"stage{number}_conv",
            groups=_dividing(layer.groups, x.shape[-1]),
            padding=layer.padding,
        )
        if layer.local:
            x = LocalResponseNorm(name=f"stage{number}_local")(x)
        stride *= layer.stride
        features[stride] = x
        size, step = layer.pool
        if size:
            name = f"stage{number}_pool"
            x = (
                max_pool(x, size, step, name=name)
                if ceil
                else MaxPooling2D(size, step, name=name)(x)
            )
            stride *= step
            features[stride] = x
    return features


def _dividing(groups: int, channels: int) -> int:
    """Return `groups`, or 1 if the number of channels isn't a multiple of it."""
    return groups if channels % groups == 0 else 1
