"""LeNet-5 (LeCun et al. 1998, section II.B) in its modern form: C3 uses every map of S2, and
subsampling is plain averaging.
"""

from __future__ import annotations

import keras

from cvpipe.errors import ConfigError
from cvpipe.models.blocks import Style, activate, scale_channels

SMALLEST = 32


def lenet5(image: keras.KerasTensor, *, width: float, style: Style) -> dict[int, keras.KerasTensor]:
    """Build C1 to C5; F6 and the output belong to the head.

    The convolutions aren't padded, as published: each reduces the map by 4 pixels, and C5 is
    [B, 1, 1, 120] for a 32×32 image.

    Args:
        image: [B, H, W, C], H and W at least 32.
        width: multiplies the maps of C1, C3 and C5.
        style: kernel initializers; the network has no norm.

    Returns:
        {1: C1, 2: C3, 4: C5} with 6, 16 and 120 maps × `width`.

    Raises:
        ConfigError: the image is smaller than 32×32.
    """
    check_size("lenet5", image)
    c1 = _convolve(image, 6, width, style, "c1")
    c3 = _convolve(_subsample(c1, "s2"), 16, width, style, "c3")
    c5 = _convolve(_subsample(c3, "s4"), 120, width, style, "c5")
    return {1: c1, 2: c3, 4: c5}


def check_size(name: str, image: keras.KerasTensor) -> None:
    """Raise a `ConfigError` if `image`, [B, H, W, C], is smaller than 32×32 pixels."""
    rows, columns = image.shape[1:3]
    if min(rows, columns) < SMALLEST:
        raise ConfigError(
            f"{name} needs images of at least {SMALLEST}×{SMALLEST} pixels and gets"
            f" {rows}×{columns}: set prepare.size to [{SMALLEST}, {SMALLEST}] or choose another"
            " model.backbone"
        )


def _convolve(
    x: keras.KerasTensor, maps: int, width: float, style: Style, name: str
) -> keras.KerasTensor:
    initializer = style.initializer.for_tanh().kernel()
    x = keras.layers.Conv2D(
        scale_channels(maps, width), 5, kernel_initializer=initializer, name=name
    )(x)
    return activate(x, "tanh", style=style, name=name)


def _subsample(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return keras.layers.AveragePooling2D(2, name=name)(x)
