"""Network in network (Lin et al. 2013, section 3): stages of a convolution, 1×1 convolutions and a
pooling.

The last layer gives one map per class, whose averages are the logits (`class_maps` in the catalog).
The authors' code has a ReLU after these maps, which is left out here. All convolutions have biases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from cvpipe.models.blocks import Style, conv_norm, max_pool, scale_channels
from cvpipe.models.random_layers import Dropout


def mlpconv(
    x: keras.KerasTensor,
    channels: Sequence[int],
    kernel: int,
    stride: int = 1,
    *,
    padding: int | None = None,
    width: float,
    style: Style,
    name: str,
) -> keras.KerasTensor:
    """Apply a convolution and a multilayer perceptron at each pixel (figure 1b): [B, H, W, C] ->
    [B, h, w, the last of `channels`].
    """
    for index, count in enumerate(channels):
        first = index == 0
        x = conv_norm(
            x,
            scale_channels(count, width),
            kernel if first else 1,
            stride if first else 1,
            style=style.without_norm(),
            activation="relu",
            name=f"{name}_conv" if first else f"{name}_mlp{index}",
            padding=padding if first else None,
        )
    return x


def nin_imagenet(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the authors' network for ImageNet: 224×224×3 become 54×54×96, 27×27×256, 13×13×384,
    6×6×1024.
    """
    settings: dict[str, Any] = {"width": width, "style": style}
    one = mlpconv(image, (96, 96, 96), 11, 4, padding=0, name="stage1", **settings)
    x = max_pool(one, 3, 2, name="stage1_pool")
    two = mlpconv(x, (256, 256, 256), 5, name="stage2", **settings)
    x = max_pool(two, 3, 2, name="stage2_pool")
    three = mlpconv(x, (384, 384, 384), 3, name="stage3", **settings)
    x = max_pool(three, 3, 2, name="stage3_pool")
    x = Dropout(0.5, name="stage3_dropout")(x)
    four = mlpconv(x, (1024, 1024), 3, name="stage4", **settings)
    return {4: one, 8: two, 16: three, 32: four}


def nin_cifar(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the authors' network for CIFAR-10 (figure 2): 32×32×3 become 32×32×96, 16×16×192,
    8×8×192.
    """
    settings: dict[str, Any] = {"width": width, "style": style}
    one = mlpconv(image, (192, 160, 96), 5, name="stage1", **settings)
    x = max_pool(one, 3, 2, name="stage1_pool")
    x = Dropout(0.5, name="stage1_dropout")(x)
    two = mlpconv(x, (192, 192, 192), 5, name="stage2", **settings)
    x = keras.layers.AveragePooling2D(3, 2, padding="same", name="stage2_pool")(two)
    x = Dropout(0.5, name="stage2_dropout")(x)
    return {1: one, 2: two, 4: mlpconv(x, (192, 192), 3, name="stage3", **settings)}
