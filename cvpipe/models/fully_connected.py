"""Fully connected layers between a feature map and the logits, as convolutions.

If the image is larger than published, the layers slide over the map, and the classifier averages
its outputs over all positions: the dense evaluation of OverFeat (Sermanet et al. 2014, section 3.5)
and VGG (Simonyan and Zisserman 2014, section 3.2).
"""

from __future__ import annotations

import keras

from cvpipe.models.blocks import Style, conv_norm, scale_channels
from cvpipe.models.random_layers import Dropout

DROPOUT = 0.5
"""Dropout rate before each layer."""


def fully_connected(
    x: keras.KerasTensor,
    *,
    size: int,
    units: tuple[int, int],
    first: int,
    width: float,
    style: Style,
) -> keras.KerasTensor:
    """Apply two layers with biases, each after dropout.

    Args:
        x: [B, H, W, C].
        size: height and width of the published map. For a smaller map, the kernel covers all of it.
        units: outputs of the layers.
        first: number of the first layer in the paper; 6 gives the names `fc6` and `fc7`.
        width: multiplies `units`.
        style: kernel initializers.

    Returns:
        [B, max(1, H - size + 1), max(1, W - size + 1), units of the last].
    """
    for index, count in enumerate(units):
        name = f"fc{first + index}"
        rows, columns = x.shape[1:3]
        kernel = (min(size, rows), min(size, columns)) if index == 0 else 1
        x = Dropout(DROPOUT, name=f"{name}_dropout")(x)
        x = conv_norm(
            x,
            scale_channels(count, width),
            kernel,
            1,
            style=style.without_norm(),
            activation="relu",
            name=name,
            padding=0,
        )
    return x
