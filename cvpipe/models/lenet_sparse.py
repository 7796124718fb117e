"""LeNet-5 as published (LeCun et al. 1998, section II.B), except for its output.

Each map of C3 uses some of S2's maps, subsampling has a coefficient and a bias for each map, and
the activation is 1.7159 tanh(2 x / 3). It has 60,000 trainable parameters. The published output
compares F6 with fixed bitmaps of the digits; here it is a trained layer with 850 more parameters.
"""

from __future__ import annotations

import keras

from cvpipe.models.blocks import Style, activate, scale_channels
from cvpipe.models.lenet import check_size

C3 = (
    (0, 1, 2),
    (1, 2, 3),
    (2, 3, 4),
    (3, 4, 5),
    (0, 4, 5),
    (0, 1, 5),
    (0, 1, 2, 3),
    (1, 2, 3, 4),
    (2, 3, 4, 5),
    (0, 3, 4, 5),
    (0, 1, 4, 5),
    (0, 1, 2, 5),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)
"""Table I: the input maps (S2) of each map of C3."""


@keras.saving.register_keras_serializable("cvpipe")
def scaled_tanh(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return 1.7159 tanh(2 x / 3), which maps ±1 to ±1 (appendix A)."""
    return 1.7159 * keras.ops.tanh(2 / 3 * x)


def lenet5_sparse(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build C1 to F6; F6 is a 1×1 convolution.

    Args:
        image: [B, H, W, C], H and W at least 32.
        width: multiplies the maps; each map of the paper becomes a group of round(width) maps.
        style: kernel initializers; the network has no norm.

    Returns:
        {1: C1, 2: C3, 4: F6} with 6, 16 and 84 maps: [B, 28, 28, 6], [B, 10, 10, 16], [B, 1, 1, 84]
        for a 32×32 image.

    Raises:
        ConfigError: the image is smaller than 32×32.
    """
    check_size("lenet5_sparse", image)
    group = max(1, round(width))
    c1 = _convolve(image, 6 * group, 5, style, "c1")
    s2 = _subsample(c1, style, "s2")
    maps = [s2[..., first * group : (first + 1) * group] for first in range(6)]
    parts = []
    for number, seen in enumerate(C3, 1):
        chosen = keras.layers.Concatenate(name=f"c3_map{number}_inputs")([maps[i] for i in seen])
        parts.append(_convolve(chosen, group, 5, style, f"c3_map{number}"))
    c3 = keras.layers.Concatenate(name="c3")(parts)
    c5 = _convolve(_subsample(c3, style, "s4"), scale_channels(120, width), 5, style, "c5")
    f6 = _convolve(c5, scale_channels(84, width), 1, style, "f6")
    return {1: c1, 2: c3, 4: f6}


def _convolve(
    x: keras.KerasTensor, maps: int, kernel: int, style: Style, name: str
) -> keras.KerasTensor:
    initializer = style.initializer.for_tanh().kernel()
    x = keras.layers.Conv2D(maps, kernel, kernel_initializer=initializer, name=name)(x)
    return _activate(x, style, name)


def _subsample(x: keras.KerasTensor, style: Style, name: str) -> keras.KerasTensor:
    """Return the mean of 2×2 pixels, times a coefficient, plus a bias, for each map."""
    x = keras.layers.AveragePooling2D(2, name=f"{name}_mean")(x)
    x = keras.layers.DepthwiseConv2D(1, depthwise_initializer="ones", name=name)(x)
    return _activate(x, style, name)


def _activate(x: keras.KerasTensor, style: Style, name: str) -> keras.KerasTensor:
    if style.activation is not None:
        return activate(x, style.activation, style=style, name=name)
    return keras.layers.Activation(scaled_tanh, name=f"{name}_tanh")(x)
