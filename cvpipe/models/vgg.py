"""VGG (Simonyan and Zisserman 2014, table 1) without its fully connected layers, and its
configuration D, VGG16, as modified by SSD and FCN.

Image tensors are [B, H, W, C].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from cvpipe.models.blocks import Style, conv_norm, scale_channels
from cvpipe.models.norms import Norm
from cvpipe.models.pooling import MaxPooling2D

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and number of the 3×3 convolutions of each stage, configuration D. A pooling ends each
stage.
"""
COUNTS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
"""Number of convolutions of each stage in configurations A, B, D and E."""


@keras.saving.register_keras_serializable("cvpipe")
class L2Normalization(keras.layers.Layer):
    """Divides each pixel's features by their Euclidean length and scales each channel (Liu et al.
    2015, ParseNet, section 3.3).

    float [B, H, W, C] -> the same; lengths are computed in float32 under every dtype policy. The
    scales are learned.
    """

    def __init__(self, initial: float, **settings: Any) -> None:
        """`initial` is the initial value of all scales."""
        super().__init__(**settings)
        self.initial = initial

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the scale, one per channel."""
        initializer = keras.initializers.Constant(self.initial)
        self.scale = self.add_weight(
            shape=(input_shape[-1],), initializer=initializer, name="scale"
        )

    def call(self, x: Any) -> Any:
        """Divide `x`, float [B, H, W, C], by the norm of each pixel and scale it."""
        features = keras.ops.cast(x, "float32")
        squares = keras.ops.sum(keras.ops.square(features), axis=-1, keepdims=True)
        # A pixel of zeros stays 0, with a gradient of 0.
        unit = features * keras.ops.rsqrt(keras.ops.maximum(squares, 1e-12))
        return keras.ops.cast(unit * keras.ops.cast(self.scale, "float32"), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that recreate the layer."""
        return {**super().get_config(), "initial": self.initial}


def vgg16(image: keras.KerasTensor, *, width: float, style: Style) -> dict[int, keras.KerasTensor]:
    """Build configuration D by `vgg`."""
    return vgg(image, COUNTS["vgg16"], width=width, style=style)


def vgg(
    image: keras.KerasTensor, counts: Sequence[int], *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the convolutions of a column of table 1, with biases.

    Args:
        image: [B, H, W, C].
        counts: number of convolutions of each stage, one of COUNTS.
        width: multiplies the channels.
        style: kernel initializers; the network has no norm.

    Returns:
        {1, 2, 4, 8, 16, 32: [B, ceil(H / stride), ceil(W / stride), 64, 128, 256, 512, 512, 512 ×
        width]}: the last convolution before each pooling, and pool5.
    """
    features = _convolutions(image, counts, width, style)
    features[32] = _pool(features[16], 5)
    return features


def ssd_vgg16(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build VGG16 whose first two fully connected layers are convolutions of 1024 × `width`
    channels (Liu et al. 2015, SSD, section 3.1).

    Args:
        image: [B, H, W, C].
        width: multiplies the channels.
        style: kernel initializers; the network has no norm.

    Returns:
        {8: conv4_3, normalized to an initial length of 20 per pixel, 16: fc7}, [B, ceil(H /
            stride), ceil(W / stride), 512, 1024 × width].
    """
    features = _convolutions(image, COUNTS["vgg16"], width, style)
    x = MaxPooling2D(3, 1, padding="same", name="stage5_pool")(features[16])
    channels = scale_channels(1024, width)
    # As in the paper, pool5 has a stride of 1 and fc6 has 3×3 weights. A dilation of 6 keeps about
    # the receptive field of the original 7×7 weights.
    x = keras.layers.Conv2D(
        channels,
        3,
        padding="same",
        dilation_rate=6,
        activation="relu",
        kernel_initializer=style.initializer.kernel(),
        name="fc6",
    )(x)
    fc7 = conv_norm(x, channels, 1, 1, style=_without_norm(style), activation="relu", name="fc7")
    return {8: L2Normalization(20.0, name="stage4_length")(features[8]), 16: fc7}


def fcn_vgg16(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build VGG16 whose first two fully connected layers are convolutions of 7×7 and 1×1 (Long et
    al. 2015, section 4.1).

    They pad with zeros to keep the size; the paper pads the image by 100 pixels and crops the
    output.

    Args:
        image: [B, H, W, C].
        width: multiplies the channels.
        style: kernel initializers; the network has no norm.

    Returns:
        {2, 4, 8, 16: pool1, pool2, pool3, pool4, 32: fc7}, [B, ceil(H / stride), ceil(W / stride),
        64, 128, 256, 512, 4096 × width].
    """
    style = _without_norm(style)
    x, features = image, {}
    for number in range(1, len(STAGES) + 1):
        x = _pool(stage(x, number, width=width, style=style), number)
        features[2**number] = x
    features[32] = fc6_fc7(x, width=width, style=style)
    return features


def stage(
    x: keras.KerasTensor,
    number: int,
    *,
    width: float,
    style: Style,
    counts: Sequence[int] = COUNTS["vgg16"],
) -> keras.KerasTensor:
    """Apply the convolutions of the stage `number`, from 1: [B, H, W, C] -> [B, H, W, C']."""
    channels, count = STAGES[number - 1][0], counts[number - 1]
    for index in range(count):
        name = f"stage{number}_conv{index + 1}"
        x = conv_norm(
            x, scale_channels(channels, width), 3, 1, style=style, activation="relu", name=name
        )
    return x


def fc6_fc7(x: keras.KerasTensor, *, width: float, style: Style) -> keras.KerasTensor:
    """Apply fc6 and fc7 as convolutions: [B, h, w, C] -> [B, h, w, 4096 × width]."""
    channels = scale_channels(4096, width)
    x = conv_norm(x, channels, 7, 1, style=style, activation="relu", name="fc6")
    return conv_norm(x, channels, 1, 1, style=style, activation="relu", name="fc7")


def _convolutions(
    image: keras.KerasTensor, counts: Sequence[int], width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    x, features = image, {}
    for number in range(1, len(STAGES) + 1):
        if number > 1:
            x = _pool(x, number - 1)
        x = stage(x, number, width=width, style=_without_norm(style), counts=counts)
        features[2 ** (number - 1)] = x
    return features


def _pool(x: keras.KerasTensor, number: int) -> keras.KerasTensor:
    # "same" rounds up, so a map of 75 pixels becomes one of 38.
    return MaxPooling2D(2, padding="same", name=f"stage{number}_pool")(x)


def _without_norm(style: Style) -> Style:
    return style._replace(norm=Norm("none"))
