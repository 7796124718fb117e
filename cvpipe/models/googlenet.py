"""GoogLeNet (Szegedy et al. 2014, table 1) and Inception with batch normalization (Ioffe and
Szegedy 2015, figure 5), called Inception-v2.
"""

from __future__ import annotations

from typing import Any, Literal

import keras

from cvpipe.models.blocks import Style, conv_norm, max_pool, scale_channels
from cvpipe.models.inception_module import Branch, Conv, Pool, module
from cvpipe.models.local_response import LocalResponseNorm
from cvpipe.models.random_layers import Dropout

GOOGLENET: tuple[tuple[tuple[str, int, int, int, int, int, int], ...], ...] = (
    (("3a", 64, 96, 128, 16, 32, 32), ("3b", 128, 128, 192, 32, 96, 64)),
    (
        ("4a", 192, 96, 208, 16, 48, 64),
        ("4b", 160, 112, 224, 24, 64, 64),
        ("4c", 128, 128, 256, 24, 64, 64),
        ("4d", 112, 144, 288, 32, 64, 64),
        ("4e", 256, 160, 320, 32, 128, 128),
    ),
    (("5a", 256, 160, 320, 32, 128, 128), ("5b", 384, 192, 384, 48, 128, 128)),
)
"""Name and channels of each module (table 1): 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool proj. A
pooling precedes each group.
"""

Row = tuple[str, int, int, int, int, int, Literal["max", "avg"], int]

BATCH_NORM: tuple[tuple[Row, ...], ...] = (
    (
        ("3a", 64, 64, 64, 64, 96, "avg", 32),
        ("3b", 64, 64, 96, 64, 96, "avg", 64),
        ("3c", 0, 128, 160, 64, 96, "max", 0),
    ),
    (
        ("4a", 224, 64, 96, 96, 128, "avg", 128),
        ("4b", 192, 96, 128, 96, 128, "avg", 128),
        ("4c", 160, 128, 160, 128, 160, "avg", 128),
        ("4d", 96, 128, 192, 160, 192, "avg", 128),
        ("4e", 0, 128, 192, 192, 256, "max", 0),
    ),
    (("5a", 352, 192, 320, 160, 224, "avg", 128), ("5b", 352, 192, 320, 192, 224, "max", 128)),
)
"""Modules at strides 8, 16 and 32 (figure 5): name, channels of 1×1, 3×3 reduce, 3×3, double 3×3
reduce and double 3×3, kind of pooling, and channels of its projection. Modules without 1×1 halve
the map. The figure states 576 channels for 4c and 4d, but their columns add up to 608, as in the
authors' network.
"""


def bottlenecked(
    one: int, reduce_three: int, three: int, reduce_five: int, five: int, project: int
) -> tuple[Branch, ...]:
    """Return the inception module with dimension reductions (figure 2b)."""
    return (
        (Conv(one, 1),),
        (Conv(reduce_three, 1), Conv(three, 3)),
        (Conv(reduce_five, 1), Conv(five, 5)),
        (Pool("max"), Conv(project, 1)),
    )


def naive(one: int, three: int, five: int) -> tuple[Branch, ...]:
    """Return the naive inception module (figure 2a), whose pooling keeps all channels."""
    return ((Conv(one, 1),), (Conv(three, 3),), (Conv(five, 5),), (Pool("max"),))


def googlenet(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the network of table 1, with biases. Its only norms are two local response
    normalizations.

    Args:
        image: [B, H, W, C].
        width: multiplies the channels.
        style: kernel initializers.

    Returns:
        {2, 4, 8, 16, 32: [B, H / stride, W / stride, 64, 192, 480, 832, 1024 × width]}.
    """
    style = style.without_norm()
    stem = conv_norm(
        image, scale_channels(64, width), 7, 2, style=style, activation="relu", name="stem"
    )
    x = max_pool(stem, 3, 2, name="stem_pool")
    x = LocalResponseNorm(name="stem_local")(x)
    for name, channels, kernel in (("stage1_reduce", 64, 1), ("stage1_conv", 192, 3)):
        x = conv_norm(
            x, scale_channels(channels, width), kernel, 1, style=style, activation="relu", name=name
        )
    x = LocalResponseNorm(name="stage1_local")(x)
    features = {2: stem, 4: x}
    for index, modules in enumerate(GOOGLENET, 2):
        x = max_pool(x, 3, 2, name=f"stage{index}_pool")
        for name, *widths in modules:
            full = f"stage{index}_{name}"
            x = module(x, bottlenecked(*widths), width=width, style=style, name=full)
        features[2 ** (index + 1)] = x
    return features


AUXILIARY = ("stage3_4a_concat", "stage3_4d_concat")
"""Input layers of the auxiliary classifiers (figure 3)."""


def auxiliary(x: keras.KerasTensor, *, width: float, style: Style, name: str) -> keras.KerasTensor:
    """Apply an auxiliary classifier's layers before its logits (section 5): 5×5 average pooling
    with stride 3, 1×1 convolution, fully connected layer, dropout of 70 %.

    [B, H, W, C] -> [B, 1, 1, 1024 × width].
    """
    rows, columns = x.shape[1:3]
    window = (min(5, rows), min(5, columns))
    x = keras.layers.AveragePooling2D(window, 3, name=f"{name}_pool")(x)
    plain: dict[str, Any] = {"style": style.without_norm(), "activation": "relu", "padding": 0}
    x = conv_norm(x, scale_channels(128, width), 1, 1, name=f"{name}_conv", **plain)
    x = conv_norm(
        x, scale_channels(1024, width), tuple(x.shape[1:3]), 1, name=f"{name}_fc", **plain
    )
    return Dropout(0.7, name=f"{name}_dropout")(x)


def inception_v2(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the network of Ioffe and Szegedy 2015, figure 5.

    Args:
        image: [B, H, W, C].
        width: multiplies the channels.
        style: settings of the layers. The first convolution is an ordinary one; the paper's is
            separable.

    Returns:
        {2, 4, 8, 16, 32: [B, H / stride, W / stride, 64, 192, 320, 608, 1024 × width]}.
    """
    stem = conv_norm(
        image, scale_channels(64, width), 7, 2, style=style, activation="relu", name="stem"
    )
    x = max_pool(stem, 3, 2, name="stem_pool")
    for name, channels, kernel in (("stage1_reduce", 64, 1), ("stage1_conv", 192, 3)):
        x = conv_norm(
            x, scale_channels(channels, width), kernel, 1, style=style, activation="relu", name=name
        )
    features = {2: stem, 4: x}
    x = max_pool(x, 3, 2, name="stage1_pool")
    stride = 8
    for index, modules in enumerate(BATCH_NORM, 2):
        for row in modules:
            name, one = row[:2]
            full = f"stage{index}_{name}"
            x = module(x, _double(row), width=width, style=style, name=full)
            stride *= 1 if one else 2
            features[stride] = x
    return features


def _double(row: Row) -> tuple[Branch, ...]:
    """Return the module of a row of BATCH_NORM, with two 3×3 convolutions instead of a 5×5."""
    _, one, reduce_three, three, reduce_double, double, pool, project = row
    stride = 1 if one else 2
    branches: tuple[Branch, ...] = (
        (Conv(reduce_three, 1), Conv(three, 3, stride)),
        (Conv(reduce_double, 1), Conv(double, 3), Conv(double, 3, stride)),
    )
    if not one:
        return (*branches, (Pool(pool, stride),))
    return ((Conv(one, 1),), *branches, (Pool(pool), Conv(project, 1)))
