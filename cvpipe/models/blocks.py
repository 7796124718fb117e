"""The parts that several networks share.

Image tensors are [B, H, W, C]. A part names its layers after the `name` it is given (`stem`,
`stem_norm`, `stem_relu`): variable paths are the keys of checkpoints.
"""

from __future__ import annotations

from typing import NamedTuple

import keras

from cvpipe.models.initializers import Initializer
from cvpipe.models.norms import Norm
from cvpipe.models.random_layers import StochasticDepth

NARROW = 16
"""Fewer channels than these are fewer than a vector of float32 holds, with AVX-512."""


class Style(NamedTuple):
    """Settings of layers, shared by all networks."""

    norm: Norm = Norm()
    """Normalization after each convolution."""
    initializer: Initializer = Initializer()
    """Initializer of kernels."""
    stochastic_depth: float = 0.0
    """Drop rate of the last residual branch in training; it grows linearly over the branches."""
    branches: int = 1
    """Number of residual branches in the network."""

    def ending_branch(self) -> Style:
        """The style of the last convolution of a residual branch.

        Without norms each branch would double the variance of what it is added to, with he. Made
        smaller by 1 / √branches, all together multiply it by less than e (Hayou et al. 2021, Stable
        ResNet).
        """
        gain = self.branches**-0.5 if self.norm.kind == "none" else 1.0
        return self._replace(initializer=self.initializer._replace(gain=gain))


def scale_channels(channels: int, width: float) -> int:
    """`width` × `channels`, rounded, at least 1."""
    return max(1, round(channels * width))


def conv_norm(
    x: keras.KerasTensor,
    filters: int,
    kernel: int,
    stride: int,
    *,
    style: Style,
    activation: str | None,
    name: str,
) -> keras.KerasTensor:
    """Convolution, norm, activation.

    The convolution has a bias only where there is no norm, whose shift does the same.

    Output pixel (i, j) is centered on input pixel (stride × i, stride × j).

    Args:
        x: [B, H, W, C].
        filters: channels of the output.
        kernel: height and width of the kernel, odd.
        stride: pixels of `x` between two output pixels.
        style: how the layers are made.
        activation: name of a Keras activation; None for a linear output.
        name: prefix of the layers' names.

    Returns:
        [B, ceil(H / stride), ceil(W / stride), filters].
    """
    if kernel == 1 and stride > 1 and x.shape[-1] < NARROW:
        # oneDNN's gradient of such a kernel writes past its buffer (uxlfoundation/oneDNN#6035):
        # wrong weights or a crash. The pixels that the stride skips are dropped here instead.
        x, stride = keras.layers.AveragePooling2D(1, stride, name=f"{name}_subsample")(x), 1
    x, padding = _pad(x, kernel, stride, name)
    initializer = style.initializer.kernel()
    x = keras.layers.Conv2D(
        filters,
        kernel,
        stride,
        padding=padding,
        use_bias=_has_bias(style),
        kernel_initializer=initializer,
        name=name,
    )(x)
    return _norm_activation(x, style, activation, name)


def depthwise_norm(
    x: keras.KerasTensor,
    kernel: int,
    stride: int,
    *,
    style: Style,
    activation: str | None,
    name: str,
) -> keras.KerasTensor:
    """`conv_norm` with one filter per channel: [B, H, W, C] -> [B, ceil(H / stride), ceil(W /
    stride), C].
    """
    x, padding = _pad(x, kernel, stride, name)
    initializer = style.initializer.depthwise_kernel()
    x = keras.layers.DepthwiseConv2D(
        kernel,
        stride,
        padding=padding,
        use_bias=_has_bias(style),
        depthwise_initializer=initializer,
        name=name,
    )(x)
    return _norm_activation(x, style, activation, name)


def add_residual(
    identity: keras.KerasTensor, branch: keras.KerasTensor, *, drop: float, name: str
) -> keras.KerasTensor:
    """identity + branch, both [B, H, W, C]; the branch is left out of a share `drop` of the
    examples in training.
    """
    if drop > 0:
        branch = StochasticDepth(drop, name=f"{name}_drop")(branch)
    return keras.layers.Add(name=f"{name}_add")([identity, branch])


def _has_bias(style: Style) -> bool:
    return style.norm.kind == "none"


def _pad(
    x: keras.KerasTensor, kernel: int, stride: int, name: str
) -> tuple[keras.KerasTensor, str]:
    """`x`, padded where the layer can't do it itself, and the `padding` argument the layer needs
    then.
    """
    if stride == 1 or kernel == 1:
        return x, "same"
    # With a stride, "same" pads an even image on one side only: half a pixel off from the papers'
    # and torchvision's networks.
    return keras.layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x), "valid"


def _norm_activation(
    x: keras.KerasTensor, style: Style, activation: str | None, name: str
) -> keras.KerasTensor:
    x = style.norm(x, f"{name}_norm")
    return (
        x
        if activation is None
        else keras.layers.Activation(activation, name=f"{name}_{activation}")(x)
    )
