"""Networks of depthwise separable convolutions: MobileNet (Howard et al. 2017) and Xception
(Chollet 2017).
"""

from __future__ import annotations

from typing import Any

import keras

from cvpipe.models.blocks import (
    Style,
    activate,
    conv_norm,
    depthwise,
    depthwise_norm,
    scale_channels,
)
from cvpipe.models.pooling import MaxPooling2D

MOBILENET = (
    ((64, 1),),
    ((128, 2), (128, 1)),
    ((256, 2), (256, 1)),
    ((512, 2), *((512, 1),) * 5),
    ((1024, 2), (1024, 1)),
)
"""Howard et al. 2017, table 1: channels and stride of the separable convolutions. The last stride
of 2 in the table must be 1 to give the table's map of 7×7.
"""


def mobilenet_v1(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the network of table 1, with a norm and a ReLU after both halves of a separable
    convolution.

    Args:
        image: [B, H, W, C].
        width: multiplies the channels, α in the paper.
        style: settings of the layers. The activation is ReLU6, as in the authors' code.

    Returns:
        {2, 4, 8, 16, 32: [B, ceil(H / stride), ceil(W / stride), 64, 128, 256, 512, 1024 × width]}.
    """
    x = conv_norm(
        image, scale_channels(32, width), 3, 2, style=style, activation="relu6", name="stem"
    )
    features, total = {}, 2
    for number, layers in enumerate(MOBILENET, 1):
        for index, (channels, stride) in enumerate(layers, 1):
            name = f"stage{number}_block{index}"
            settings: dict[str, Any] = {"style": style, "activation": "relu6"}
            x = depthwise_norm(x, 3, stride, name=f"{name}_depthwise", **settings)
            x = conv_norm(
                x, scale_channels(channels, width), 1, 1, name=f"{name}_point", **settings
            )
            total *= stride
        features[total] = x
    return features


def separable(x: keras.KerasTensor, channels: int, *, style: Style, name: str) -> keras.KerasTensor:
    """Apply a depthwise 3×3 convolution, a 1×1 convolution and a norm, without an activation
    between them (Xception, section 3.1): [B, H, W, C] -> [B, H, W, channels].
    """
    x = depthwise(x, 3, 1, style=style, name=f"{name}_depthwise", bias=False)
    return conv_norm(x, channels, 1, 1, style=style, activation=None, name=f"{name}_point")


def xception(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the network of figure 5: 299×299×3 become 147×147×64, 74×74×128, 37×37×256, 19×19×728,
    10×10×2048.

    Args:
        image: [B, H, W, C].
        width: multiplies the channels.
        style: settings of the layers.

    Returns:
        {2, 4, 8, 16, 32: feature map}: outputs of the stem, the first two blocks, the middle flow
        and the exit flow.
    """
    x = conv_norm(
        image,
        scale_channels(32, width),
        3,
        2,
        style=style,
        activation="relu",
        name="stem1",
        padding=0,
    )
    x = conv_norm(
        x, scale_channels(64, width), 3, 1, style=style, activation="relu", name="stem2", padding=0
    )
    features, stride = {2: x}, 2
    for number, channels in enumerate((128, 256, 728), 1):
        channels = scale_channels(channels, width)
        name = f"stage{number}_block1"
        x = _down(x, (channels, channels), style=style, name=name, rectified=number > 1)
        stride *= 2
        features[stride] = x
    for index in range(2, 10):
        name, y = f"stage3_block{index}", x
        for layer in (1, 2, 3):
            y = activate(y, "relu", style=style, name=f"{name}_conv{layer}_before")
            y = separable(y, x.shape[-1], style=style, name=f"{name}_conv{layer}")
        x = keras.layers.Add(name=f"{name}_add")([y, x])
    features[16] = x
    exits = (x.shape[-1], scale_channels(1024, width))
    x = _down(x, exits, style=style, name="stage4_block1", rectified=True)
    for index, channels in enumerate((1536, 2048), 2):
        name = f"stage4_block{index}"
        x = separable(x, scale_channels(channels, width), style=style, name=name)
        x = activate(x, "relu", style=style, name=name)
    features[32] = x
    return features


def _down(
    x: keras.KerasTensor, channels: tuple[int, int], *, style: Style, name: str, rectified: bool
) -> keras.KerasTensor:
    """Add two separable convolutions and a pooling to a strided 1×1 convolution: [B, H, W, C] ->
    [B, ceil(H / 2), ceil(W / 2), the last of `channels`].

    `rectified` is True if a ReLU precedes the first separable convolution.
    """
    shortcut = conv_norm(
        x, channels[1], 1, 2, style=style, activation=None, name=f"{name}_shortcut"
    )
    for layer, count in enumerate(channels, 1):
        if layer > 1 or rectified:
            x = activate(x, "relu", style=style, name=f"{name}_conv{layer}_before")
        x = separable(x, count, style=style, name=f"{name}_conv{layer}")
    x = MaxPooling2D(3, 2, padding="same", name=f"{name}_pool")(x)
    return keras.layers.Add(name=f"{name}_add")([x, shortcut])
