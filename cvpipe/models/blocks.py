"""The parts that several networks share.

Image tensors are [B, H, W, C]. A part names its layers after the `name` it is given (`stem`, `stem_norm`, `stem_relu`):
variable paths are the keys of checkpoints.
"""

from __future__ import annotations

from typing import NamedTuple

import keras


class Norm(NamedTuple):
    """Settings of every BatchNorm in a network (Ioffe and Szegedy 2015); calling it with a name makes one layer."""

    momentum: float = 0.9
    """Share of the moving statistics that a training step keeps."""
    epsilon: float = 1e-5
    """Added to the variance."""
    synchronized: bool = False
    """Take the statistics of the global batch, not of each replica's part."""

    def __call__(self, name: str) -> keras.layers.BatchNormalization:
        return keras.layers.BatchNormalization(
            momentum=self.momentum, epsilon=self.epsilon, synchronized=self.synchronized, name=name
        )


def scale_channels(channels: int, width: float) -> int:
    """`width` × `channels`, rounded, at least 1."""
    return max(1, round(channels * width))


def conv_norm(
    x: keras.KerasTensor, filters: int, kernel: int, stride: int, *, norm: Norm, activation: str | None, name: str
) -> keras.KerasTensor:
    """Convolution without bias, BatchNorm, activation.

    Output pixel (i, j) is centered on input pixel (stride × i, stride × j).

    Args:
        x: [B, H, W, C].
        filters: channels of the output.
        kernel: height and width of the kernel, odd.
        stride: pixels of `x` between two output pixels.
        norm: settings of the BatchNorm.
        activation: name of a Keras activation; None for a linear output.
        name: prefix of the layers' names.

    Returns:
        [B, ceil(H / stride), ceil(W / stride), filters].
    """
    x, padding = _pad(x, kernel, stride, name)
    x = keras.layers.Conv2D(
        filters, kernel, stride, padding=padding, use_bias=False, kernel_initializer="he_normal", name=name
    )(x)
    return _norm_activation(x, norm, activation, name)


def depthwise_norm(
    x: keras.KerasTensor, kernel: int, stride: int, *, norm: Norm, activation: str | None, name: str
) -> keras.KerasTensor:
    """`conv_norm` with one filter per channel: [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), C]."""
    x, padding = _pad(x, kernel, stride, name)
    # He-normal: an output sums kernel² inputs, which Keras calls the fan-out of a depthwise kernel (its fan-in multiplies by C).
    he_normal = keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="truncated_normal")
    x = keras.layers.DepthwiseConv2D(
        kernel, stride, padding=padding, use_bias=False, depthwise_initializer=he_normal, name=name
    )(x)
    return _norm_activation(x, norm, activation, name)


def _pad(x: keras.KerasTensor, kernel: int, stride: int, name: str) -> tuple[keras.KerasTensor, str]:
    """`x`, padded where the layer can't do it itself, and the `padding` argument the layer needs then."""
    if stride == 1 or kernel == 1:
        return x, "same"
    # With a stride, "same" pads an even image on one side only: half a pixel off from the papers' and torchvision's networks.
    return keras.layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x), "valid"


def _norm_activation(x: keras.KerasTensor, norm: Norm, activation: str | None, name: str) -> keras.KerasTensor:
    x = norm(f"{name}_norm")(x)
    return x if activation is None else keras.layers.Activation(activation, name=f"{name}_{activation}")(x)
