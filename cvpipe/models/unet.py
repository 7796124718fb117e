"""U-Net's contracting path (Ronneberger et al. 2015, figure 1). Image tensors are [B, H, W, C]."""

from __future__ import annotations

import keras

from cvpipe.models.blocks import Style, conv_norm, scale_channels
from cvpipe.models.pooling import MaxPooling2D

CHANNELS = (64, 128, 256, 512, 1024)
"""Channels of the convolutions of each stage. A pooling separates two stages."""


def two_convolutions(
    x: keras.KerasTensor, filters: int, *, style: Style, name: str
) -> keras.KerasTensor:
    """Apply two 3×3 convolutions, as on every map of U-Net: [B, H, W, C] -> [B, H, W, filters]."""
    for index in range(2):
        x = conv_norm(
            x, filters, 3, 1, style=style, activation="relu", name=f"{name}_conv{index + 1}"
        )
    return x


def unet(image: keras.KerasTensor, *, width: float, style: Style) -> dict[int, keras.KerasTensor]:
    """Build the contracting path's ten convolutions.

    They pad with zeros, so every pixel of the image is classified. In the paper they have no norm
    and don't pad, so the output lacks a border.

    Args:
        image: [B, H, W, C].
        width: multiplies the channels.
        style: settings of the layers.

    Returns:
        {1, 2, 4, 8, 16: [B, ceil(H / stride), ceil(W / stride), 64, 128, 256, 512, 1024 × width]}.
    """
    x, features = image, {}
    for index, channels in enumerate(CHANNELS):
        if index > 0:
            x = MaxPooling2D(2, padding="same", name=f"stage{index}_pool")(x)
        x = two_convolutions(
            x, scale_channels(channels, width), style=style, name=f"stage{index + 1}"
        )
        features[2**index] = x
    return features
