"""SqueezeNet (Iandola et al. 2016), built from fire modules. All convolutions have biases.

conv10 gives one map per class, whose averages are the logits (`class_maps` in the catalog). The
authors' code has a ReLU after conv10, which is left out here.
"""

from __future__ import annotations

from collections.abc import Collection

import keras

from cvpipe.models.blocks import Style, conv_norm, max_pool, scale_channels

FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
"""Channels of fire2 to fire9 (table 1): the squeeze layer, and each half of the expand layer."""


def fire(
    x: keras.KerasTensor, squeeze: int, expand: int, *, style: Style, name: str
) -> keras.KerasTensor:
    """Apply a fire module (figure 1): a 1×1 convolution to few channels, then a 1×1 and a 3×3
    convolution side by side: [B, H, W, C] -> [B, H, W, 2 × expand].
    """
    x = conv_norm(x, squeeze, 1, 1, style=style, activation="relu", name=f"{name}_squeeze")
    one = conv_norm(x, expand, 1, 1, style=style, activation="relu", name=f"{name}_expand1")
    three = conv_norm(x, expand, 3, 1, style=style, activation="relu", name=f"{name}_expand3")
    return keras.layers.Concatenate(name=f"{name}_concat")([one, three])


def squeezenet(
    image: keras.KerasTensor,
    *,
    stem: tuple[int, int] = (96, 7),
    pools: Collection[int] = (4, 8),
    bypass: bool = False,
    width: float,
    style: Style,
) -> dict[int, keras.KerasTensor]:
    """Build the network of table 1. In version 1.0, 224×224×3 become 109×109×96, 54×54×256 (fire4),
    27×27×512 (fire8), 13×13×512 (fire9).

    Args:
        image: [B, H, W, C].
        stem: channels and kernel of the first convolution, with stride 2; (64, 3) in version 1.1.
        pools: fire modules that are followed by a pooling; (3, 5) in version 1.1.
        bypass: True adds the inputs of fire3, 5, 7 and 9 to their outputs (section 6, simple
            bypass).
        width: multiplies the channels.
        style: kernel initializers; the network has no norm.

    Returns:
        {stride: the last map of that stride}.
    """
    style, (channels, kernel) = style.without_norm(), stem
    x = conv_norm(
        image,
        scale_channels(channels, width),
        kernel,
        2,
        style=style,
        activation="relu",
        name="stem",
        padding=0,
    )
    features, stride = {2: x}, 4
    x = max_pool(x, 3, 2, name="stem_pool")
    for number, (squeeze, expand) in enumerate(FIRES, 2):
        y = fire(
            x,
            scale_channels(squeeze, width),
            scale_channels(expand, width),
            style=style,
            name=f"fire{number}",
        )
        adds = bypass and number % 2 == 1
        x = keras.layers.Add(name=f"fire{number}_add")([x, y]) if adds else y
        features[stride] = x
        if number in pools:
            x = max_pool(x, 3, 2, name=f"fire{number}_pool")
            stride *= 2
    return features
