"""ShuffleNet (Zhang et al. 2018), built from stages of units."""

from __future__ import annotations

import keras

from cvpipe.models.blocks import (
    Style,
    activate,
    conv_norm,
    depthwise_norm,
    max_pool,
    scale_channels,
)

CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""Table 1: channels of stage 2 by number of groups; each further stage has twice as many."""
UNITS = (4, 8, 4)
"""Table 1: units of the stages 2 to 4, the first with stride 2."""


def shuffle(x: keras.KerasTensor, groups: int, name: str) -> keras.KerasTensor:
    """Shuffle channels across groups for the next grouped convolution (figure 1c): [B, H, W, C] ->
    the same.
    """
    rows, columns, channels = x.shape[1:]
    x = keras.layers.Reshape((rows, columns, groups, channels // groups), name=f"{name}_split")(x)
    x = keras.layers.Permute((1, 2, 4, 3), name=f"{name}_shuffle")(x)
    return keras.layers.Reshape((rows, columns, channels), name=f"{name}_join")(x)


def unit(
    x: keras.KerasTensor,
    channels: int,
    groups: int,
    stride: int,
    *,
    first: bool,
    style: Style,
    name: str,
) -> keras.KerasTensor:
    """Apply the unit of figure 2b, or with stride 2 of figure 2c: [B, H, W, C] -> [B, ceil(H /
    stride), ceil(W / stride), channels].

    The bottleneck has a quarter of `channels`. The `first` unit of the network has no groups in its
    first convolution (section 3.3).
    """
    first_groups = 1 if first else groups
    inner = groups * max(1, channels // 4 // groups)
    branch = channels - x.shape[-1] if stride > 1 else channels
    y = conv_norm(
        x, inner, 1, 1, style=style, activation="relu", name=f"{name}_conv1", groups=first_groups
    )
    if first_groups > 1:
        y = shuffle(y, groups, name)
    y = depthwise_norm(y, 3, stride, style=style, activation=None, name=f"{name}_depthwise")
    y = conv_norm(
        y, branch, 1, 1, style=style, activation=None, name=f"{name}_conv2", groups=groups
    )
    if stride > 1:
        pooled = keras.layers.AveragePooling2D(3, stride, padding="same", name=f"{name}_pool")(x)
        x = keras.layers.Concatenate(name=f"{name}_concat")([pooled, y])
    else:
        x = keras.layers.Add(name=f"{name}_add")([x, y])
    return activate(x, "relu", style=style, name=name)


def shufflenet(
    image: keras.KerasTensor, *, groups: int, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build ShuffleNet 1× (table 1).

    Args:
        image: [B, H, W, C].
        groups: number of groups of the 1×1 convolutions, a key of CHANNELS.
        width: multiplies the channels, which stay multiples of 4 × groups.
        style: settings of the layers.

    Returns:
        {2, 4, 8, 16, 32: [B, ceil(H / stride), ceil(W / stride), C]}.
    """
    stem = conv_norm(
        image,
        groups * max(1, round(scale_channels(24, width) / groups)),
        3,
        2,
        style=style,
        activation="relu",
        name="stem",
    )
    x = max_pool(stem, 3, 2, padding=1, name="stem_pool")
    features = {2: stem, 4: x}
    # All numbers of channels are multiples of the groups. The first stage must have more channels
    # than the stem, because it concatenates the stem.
    least = groups * max(2, round(CHANNELS[groups] * width / groups))
    for number, count in enumerate(UNITS, 1):
        for index in range(count):
            x = unit(
                x,
                least * 2 ** (number - 1),
                groups,
                2 if index == 0 else 1,
                first=number == 1 and index == 0,
                style=style,
                name=f"stage{number}_block{index + 1}",
            )
        features[4 * 2**number] = x
    return features
