"""Feature maps in addition to a backbone's: coarser maps, and the maps of a feature pyramid.

Maps are [B, h, w, C], listed from fine to coarse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from cvpipe.errors import ConfigError
from cvpipe.models.blocks import Style, conv_norm, scale_channels

Size = tuple[int, int]
"""Height and width."""


class Extra(NamedTuple):
    """Two convolutions that make the next coarser map: 1×1 to half of `filters`, then
    `kernel`×`kernel` to `filters` (Liu et al. 2015, figure 2).
    """

    filters: int
    """Channels at width 1; not more than those of the input map."""
    kernel: int = 3
    stride: int = 2
    padding: int = 1
    """Zeros added on each side."""

    def pixels(self, before: int) -> int:
        """Return the output length along an axis for the input length `before`.

        Raises:
            ConfigError: the output length would be less than 1.
        """
        after = (before + 2 * self.padding - self.kernel) // self.stride + 1
        if after < 1:
            raise ConfigError(
                f"a feature map {before} pixels long is too small for an extra layer: set"
                " prepare.size to larger images"
            )
        return after


@keras.saving.register_keras_serializable("cvpipe")
class SpaceToDepth(keras.layers.Layer):
    """Rearranges each 2×2 block of pixels into one: [B, h, w, C] -> [B, ceil(h / 2), ceil(w / 2),
    4 × C].

    Channels are ordered by pixel: upper left, upper right, lower left, lower right. Pixels beyond
    the edge are 0. This is YOLOv2's passthrough layer (Redmon and Farhadi 2016, section 2).
    """

    def call(self, x: Any) -> Any:
        """Return [B, ceil(H / 2), ceil(W / 2), 4 C] for `x`, float [B, H, W, C]."""
        rows, columns = x.shape[1:3]
        if rows % 2 or columns % 2:
            x = tf.pad(x, [[0, 0], [0, rows % 2], [0, columns % 2], [0, 0]])
        return tf.nn.space_to_depth(x, 2)


def take(features: dict[int, keras.KerasTensor], strides: Sequence[int]) -> list[keras.KerasTensor]:
    """Return the maps of a backbone with these strides, in this order.

    Raises:
        ConfigError: the backbone lacks one of them.
    """
    for stride in strides:
        if stride not in features:
            raise ConfigError(
                f"the backbone has no feature map of stride {stride}: choose from"
                f" {', '.join(map(str, sorted(features)))}"
            )
    return [features[stride] for stride in strides]


def grids_of(size: Size, strides: Sequence[int]) -> tuple[Size, ...]:
    """Return height and width of the feature maps with these strides, for an image of `size`
    pixels.
    """
    return tuple((-(-size[0] // stride), -(-size[1] // stride)) for stride in strides)


def check_grids(maps: Sequence[keras.KerasTensor], grids: Sequence[Size]) -> None:
    """Check that the maps have the sizes that their strides imply.

    The layout of boxes follows the strides, so a map of another size would misplace them.

    Raises:
        ConfigError: a map's height and width differ from those in `grids`.
    """
    for x, grid in zip(maps, grids, strict=True):
        if tuple(x.shape[1:3]) != grid:
            found, expected = (f"{rows}×{columns}" for rows, columns in (x.shape[1:3], grid))
            raise ConfigError(
                f"a feature map has {found} cells, but its stride implies {expected}: choose"
                " another model.backbone"
            )


def reach(
    features: dict[int, keras.KerasTensor], stride: int, style: Style
) -> dict[int, keras.KerasTensor]:
    """Add maps to `features` up to `stride`. Each has twice the stride and twice the channels of
    the map before.
    """
    features = dict(features)
    while (coarsest := max(features)) < stride:
        x = features[coarsest]
        name = f"extra{2 * coarsest}"
        features[2 * coarsest] = conv_norm(
            x, 2 * x.shape[-1], 3, 2, style=style, activation="relu", name=name
        )
    return features


def extra_maps(
    x: keras.KerasTensor, extras: Sequence[Extra], *, width: float, separable: bool, style: Style
) -> list[keras.KerasTensor]:
    """Apply `extras` in sequence to `x`, and return all their maps.

    If `separable`, the second convolution of each is depthwise separable, as in SSDLite (Sandler et
    al. 2018, section 6.2).
    """
    maps = []
    for index, extra in enumerate(extras):
        x = _extra(
            x,
            extra,
            min(scale_channels(extra.filters, width), x.shape[-1]),
            separable,
            style,
            f"extra{index + 1}",
        )
        maps.append(x)
    return maps


def feature_pyramid(
    maps: Sequence[keras.KerasTensor], channels: int, *, style: Style
) -> list[keras.KerasTensor]:
    """Return a feature pyramid: maps of the sizes of `maps`, with `channels` channels each. A 1×1
    convolution of each backbone map and the upsampled next coarser map are added (Lin et al. 2016,
    section 3). As in the paper, the convolutions have no activation.
    """
    merged: list[keras.KerasTensor] = []
    for level in range(len(maps), 0, -1):
        x = conv_norm(
            maps[level - 1],
            channels,
            1,
            1,
            style=style,
            activation=None,
            name=f"pyramid{level}_lateral",
        )
        if merged:
            x = keras.layers.Add(name=f"pyramid{level}_add")(
                [x, upsample_to(merged[0], x, f"pyramid{level}")]
            )
        merged.insert(0, x)
    return [
        conv_norm(x, channels, 3, 1, style=style, activation=None, name=f"pyramid{index + 1}")
        for index, x in enumerate(merged)
    ]


def upsample_to(coarse: keras.KerasTensor, fine: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Repeat the pixels of `coarse`, and crop it to the height and width of `fine`."""
    sizes = list(zip(coarse.shape[1:3], fine.shape[1:3], strict=True))
    x = keras.layers.UpSampling2D(
        [-(-pixels // before) for before, pixels in sizes], name=f"{name}_upsample"
    )(coarse)
    return crop_to(x, fine.shape[1:3])


def crop_to(x: keras.KerasTensor, size: Size) -> keras.KerasTensor:
    """Crop `x` to this height and width, at the bottom and right. Strides round sizes up, so a map
    of 5 pixels may belong to a map of 9, but upsampling gives 10.
    """
    # Slice instead of using a layer, which would round float32 scores to the policy's half
    # precision.
    return x if tuple(x.shape[1:3]) == tuple(size) else x[:, : size[0], : size[1]]


def _extra(
    x: keras.KerasTensor, extra: Extra, filters: int, separable: bool, style: Style, name: str
) -> keras.KerasTensor:
    activation = "relu6" if separable else "relu"
    x = conv_norm(
        x, max(1, filters // 2), 1, 1, style=style, activation=activation, name=f"{name}_reduce"
    )
    if extra.padding > 0:
        x = keras.layers.ZeroPadding2D(extra.padding, name=f"{name}_pad")(x)
    has_bias = style.norm.kind == "none"
    if not separable:
        initializer = style.initializer.kernel()
        x = keras.layers.Conv2D(
            filters,
            extra.kernel,
            extra.stride,
            use_bias=has_bias,
            kernel_initializer=initializer,
            name=name,
        )(x)
        return keras.layers.Activation(activation, name=f"{name}_{activation}")(
            style.norm(x, f"{name}_norm")
        )
    depthwise = f"{name}_depthwise"
    x = keras.layers.DepthwiseConv2D(
        extra.kernel,
        extra.stride,
        use_bias=has_bias,
        depthwise_initializer=style.initializer.depthwise_kernel(),
        name=depthwise,
    )(x)
    x = keras.layers.Activation(activation, name=f"{depthwise}_{activation}")(
        style.norm(x, f"{depthwise}_norm")
    )
    return conv_norm(x, filters, 1, 1, style=style, activation=activation, name=name)
