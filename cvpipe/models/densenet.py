"""DenseNet (Huang et al. 2017), built from blocks of dense layers. Each layer sees the outputs of
all layers before it in its block.
"""

from __future__ import annotations

import keras

from cvpipe.models.blocks import (
    Style,
    activate,
    conv_norm,
    convolution,
    max_pool,
    norm_conv,
    scale_channels,
)


def dense_block(
    x: keras.KerasTensor, layers: int, growth: int, *, bottleneck: bool, style: Style, name: str
) -> keras.KerasTensor:
    """Apply `layers` layers of norm, ReLU and 3×3 convolution, each of which adds `growth`
    channels: [B, H, W, C] -> [B, H, W, C + layers × growth].

    If `bottleneck`, a norm, a ReLU and a 1×1 convolution to 4 × growth channels precede each layer
    (DenseNet-B).
    """
    for index in range(1, layers + 1):
        layer = f"{name}_layer{index}"
        y = x
        if bottleneck:
            y = norm_conv(y, 4 * growth, 1, 1, style=style, name=f"{layer}_conv1")
        y = norm_conv(y, growth, 3, 1, style=style, name=f"{layer}_conv2")
        x = keras.layers.Concatenate(name=f"{layer}_concat")([x, y])
    return x


def transition(
    x: keras.KerasTensor, channels: int, *, style: Style, name: str
) -> keras.KerasTensor:
    """Apply norm, ReLU, 1×1 convolution and 2×2 average pooling: [B, H, W, C] -> [B, H // 2, W //
    2, channels].
    """
    x = norm_conv(x, channels, 1, 1, style=style, name=f"{name}_transition")
    return keras.layers.AveragePooling2D(2, name=f"{name}_pool")(x)


def densenet(
    image: keras.KerasTensor,
    *,
    blocks: tuple[int, int, int, int],
    growth: int = 32,
    width: float,
    style: Style,
) -> dict[int, keras.KerasTensor]:
    """Build a network of table 1, for ImageNet, with bottlenecks and transitions that halve the
    channels.

    Args:
        image: [B, H, W, C].
        blocks: number of layers in each block.
        growth: channels that a layer adds, k in the paper.
        width: multiplies the channels.
        style: settings of the layers.

    Returns:
        {2, 4, 8, 16, 32: [B, h, w, C]}: the outputs of the first convolution and of the blocks, the
        last one after a norm and a ReLU.
    """
    growth = scale_channels(growth, width)
    stem = conv_norm(image, 2 * growth, 7, 2, style=style, activation="relu", name="stem")
    x = max_pool(stem, 3, 2, padding=1, name="stem_pool")
    features = {2: stem}
    for number, layers in enumerate(blocks, 1):
        name = f"stage{number}"
        x = dense_block(x, layers, growth, bottleneck=True, style=style, name=name)
        features[2 ** (number + 1)] = x
        if number < len(blocks):
            x = transition(x, x.shape[-1] // 2, style=style, name=name)
    features[32] = _last(x, style)
    return features


def small_densenet(
    image: keras.KerasTensor,
    *,
    layers: int,
    growth: int,
    compressed: bool,
    width: float,
    style: Style,
) -> dict[int, keras.KerasTensor]:
    """Build a network for CIFAR (section 3): three blocks of `layers` layers each.

    `compressed` selects DenseNet-BC: bottlenecks, transitions that halve the channels, and 2 ×
    growth channels in the first convolution instead of 16.

    Returns:
        {1, 2, 4: [B, h, w, C]}: the outputs of the blocks, the last one after a norm and a ReLU.
    """
    growth = scale_channels(growth, width)
    channels = 2 * growth if compressed else scale_channels(16, width)
    x = convolution(image, channels, 3, 1, style=style, name="stem")
    features = {}
    for number in (1, 2, 3):
        name = f"stage{number}"
        x = dense_block(x, layers, growth, bottleneck=compressed, style=style, name=name)
        features[2 ** (number - 1)] = x
        if number < 3:
            channels = x.shape[-1] // 2 if compressed else x.shape[-1]
            x = transition(x, channels, style=style, name=name)
    features[4] = _last(x, style)
    return features


def _last(x: keras.KerasTensor, style: Style) -> keras.KerasTensor:
    return activate(style.norm(x, "last_norm"), "relu", style=style, name="last")
