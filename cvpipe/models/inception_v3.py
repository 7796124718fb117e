"""Inception-v3 (Szegedy et al. 2015, Rethinking the Inception architecture, table 1 with batch
norm) as its authors published it: 299×299 pixels become 35×35×288, 17×17×768, 8×8×2048.
"""

from __future__ import annotations

from typing import Any

import keras

from cvpipe.models.blocks import Style, conv_norm, scale_channels
from cvpipe.models.inception_module import Branch, Conv, Fork, Pool, module, steps

STEM = (
    Conv(32, 3, 2, valid=True),
    Conv(32, 3, valid=True),
    Conv(64, 3),
    Pool("max", 2, valid=True),
    Conv(80, 1),
    Conv(192, 3, valid=True),
    Pool("max", 2, valid=True),
)
"""299×299×3 become 149×149×32, 147×147×32, 147×147×64, 73×73×64, 73×73×80, 71×71×192, 35×35×192."""


def square(project: int) -> tuple[Branch, ...]:
    """Return the module of figure 5, for 35×35 pixels, with one branch of a 5×5 and one of two 3×3
    convolutions.
    """
    return (
        (Conv(64, 1),),
        (Conv(48, 1), Conv(64, 5)),
        (Conv(64, 1), Conv(96, 3), Conv(96, 3)),
        (Pool("avg"), Conv(project, 1)),
    )


def factored(inner: int) -> tuple[Branch, ...]:
    """Return the module of figure 6 with n = 7, for 17×17 pixels: 1×7 and 7×1 convolutions instead
    of 7×7.
    """
    row, column = (1, 7), (7, 1)
    return (
        (Conv(192, 1),),
        (Conv(inner, 1), Conv(inner, row), Conv(192, column)),
        (
            Conv(inner, 1),
            Conv(inner, column),
            Conv(inner, row),
            Conv(inner, column),
            Conv(192, row),
        ),
        (Pool("avg"), Conv(192, 1)),
    )


EXPANDED: tuple[Branch, ...] = (
    (Conv(320, 1),),
    (Conv(384, 1), Fork(((Conv(384, (1, 3)),), (Conv(384, (3, 1)),)))),
    (Conv(448, 1), Conv(384, 3), Fork(((Conv(384, (1, 3)),), (Conv(384, (3, 1)),)))),
    (Pool("avg"), Conv(192, 1)),
)
"""Module of figure 7, for 8×8 pixels, with wider filter banks."""
TO_17: tuple[Branch, ...] = (
    (Conv(384, 3, 2, valid=True),),
    (Conv(64, 1), Conv(96, 3), Conv(96, 3, 2, valid=True)),
    (Pool("max", 2, valid=True),),
)
"""Module of figure 10, from 35×35 to 17×17 pixels."""
TO_8: tuple[Branch, ...] = (
    (Conv(192, 1), Conv(320, 3, 2, valid=True)),
    (Conv(192, 1), Conv(192, (1, 7)), Conv(192, (7, 1)), Conv(192, 3, 2, valid=True)),
    (Pool("max", 2, valid=True),),
)
"""Module from 17×17 to 8×8 pixels."""
STAGES: tuple[tuple[tuple[Branch, ...], ...], ...] = (
    (square(32), square(64), square(64)),
    (TO_17, factored(128), factored(160), factored(160), factored(192)),
    (TO_8, EXPANDED, EXPANDED),
)
"""The modules at strides 8, 16 and 32."""
AUXILIARY = ("stage2_module5_concat",)
"""Input layer of the auxiliary classifier: the last one with 17×17 pixels (figure 8)."""


def inception_v3(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the network from the modules of figures 5, 6 and 7.

    Args:
        image: [B, H, W, C], H and W at least 75.
        width: multiplies the channels.
        style: settings of the layers. BatchNorms have a scale, as in torchvision and in the paper
            on batch normalization. Without a scale, as in Keras and in the authors' code, the
            network would have 17,216 fewer parameters.

    Returns:
        {8, 16, 32: [B, h, w, 288, 768, 2048 × width]}, a few pixels smaller than H / stride.
    """
    x = steps(image, STEM, width=width, style=style, name="stem")
    features = {}
    for number, modules in enumerate(STAGES, 1):
        for index, branches in enumerate(modules, 1):
            name = f"stage{number}_module{index}"
            x = module(x, branches, width=width, style=style, name=name)
        features[4 * 2**number] = x
    return features


def auxiliary(x: keras.KerasTensor, *, width: float, style: Style, name: str) -> keras.KerasTensor:
    """Apply the auxiliary classifier's layers before its logits, as in torchvision: 5×5 average
    pooling with stride 3, 1×1 convolution, 5×5 convolution.

    [B, H, W, C] -> [B, 1, 1, 768 × width].
    """
    rows, columns = x.shape[1:3]
    x = keras.layers.AveragePooling2D((min(5, rows), min(5, columns)), 3, name=f"{name}_pool")(x)
    settings: dict[str, Any] = {"style": style, "activation": "relu", "padding": 0}
    x = conv_norm(x, scale_channels(128, width), 1, 1, name=f"{name}_conv1", **settings)
    kernel = (min(5, x.shape[1]), min(5, x.shape[2]))
    return conv_norm(x, scale_channels(768, width), kernel, 1, name=f"{name}_conv2", **settings)
