"""The parts that several networks share.

Image tensors are [B, H, W, C]. A part names its layers after the `name` it is given (`stem`,
`stem_norm`, `stem_relu`): variable paths are the keys of checkpoints.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import keras

from cvpipe.errors import ConfigError
from cvpipe.models.activations import activation_layer
from cvpipe.models.grouped_conv import GroupedConv2D
from cvpipe.models.initializers import Initializer
from cvpipe.models.norms import Norm
from cvpipe.models.pooling import MaxPooling2D
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
    one_sided: bool = False
    """Pad strided convolutions as TensorFlow does, where an even image has its padding after it."""
    projected: bool = False
    """Begin every stage of residual blocks with a projection, also where the shape stays."""
    gate_activation: str | None = None
    """Activation inside squeeze-and-excitation in place of the network's own; None: its own."""
    activation: str | None = None
    """The activation between layers in place of the network's own; None: its own."""

    def without_norm(self) -> Style:
        """The style of networks and layers that were published without norms."""
        return self._replace(norm=Norm("none"))

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
    kernel: int | tuple[int, int],
    stride: int,
    *,
    style: Style,
    activation: str | None,
    name: str,
    groups: int = 1,
    padding: int | None = None,
) -> keras.KerasTensor:
    """Convolution, norm, activation.

    The convolution has a bias only where there is no norm, whose shift does the same.

    Output pixel (i, j) is centered on input pixel (stride × i, stride × j), unless `style` pads on
    one side or `padding` is given.

    Args:
        x: [B, H, W, C].
        filters: channels of the output.
        kernel: height and width of the kernel; odd, unless `padding` is given.
        stride: pixels of `x` between two output pixels.
        style: how the layers are made.
        activation: name of a Keras activation; None for a linear output.
        name: prefix of the layers' names.
        groups: parts of the channels that are convolved apart.
        padding: pixels of zeros on each side; None: half the kernel.

    Returns:
        [B, ceil(H / stride), ceil(W / stride), filters].
    """
    # Maxout takes the larger of two linear functions.
    pieces = 2 if activation is not None and style.activation == "maxout" else 1
    x = convolution(
        x, pieces * filters, kernel, stride, style=style, name=name, groups=groups, padding=padding
    )
    x = style.norm(x, f"{name}_norm")
    if activation is None:
        return x
    return activation_layer(style.activation or activation, name)(x)


def norm_conv(
    x: keras.KerasTensor,
    filters: int,
    kernel: int,
    stride: int,
    *,
    style: Style,
    name: str,
    bias: bool | None = None,
) -> keras.KerasTensor:
    """Norm, ReLU, convolution (He et al. 2016, Identity mappings): [B, H, W, C] -> [B, ceil(H /
    stride), ceil(W / stride), filters].

    `bias` gives the convolution one; None: only where there are no norms.
    """
    x = style.norm(x, f"{name}_norm")
    x = activate(x, "relu", style=style, name=name)
    return convolution(x, filters, kernel, stride, style=style, name=name, bias=bias)


def convolution(
    x: keras.KerasTensor,
    filters: int,
    kernel: int | tuple[int, int],
    stride: int,
    *,
    style: Style,
    name: str,
    groups: int = 1,
    padding: int | None = None,
    bias: bool | None = None,
) -> keras.KerasTensor:
    """The convolution of `conv_norm` alone. `bias` None: it has one only where there are no
    norms.
    """
    if kernel == 1 and stride > 1 and x.shape[-1] < NARROW:
        # oneDNN's gradient of such a kernel writes past its buffer (uxlfoundation/oneDNN#6035):
        # wrong weights or a crash. The pixels that the stride skips are dropped here instead.
        x, stride = keras.layers.AveragePooling2D(1, stride, name=f"{name}_subsample")(x), 1
    x, mode = _pad(x, kernel, stride, style, name, padding)
    layer = keras.layers.Conv2D if groups == 1 else partial(GroupedConv2D, groups=groups)
    return layer(
        filters,
        kernel,
        stride,
        padding=mode,
        use_bias=_has_bias(style) if bias is None else bias,
        kernel_initializer=style.initializer.kernel(),
        name=name,
    )(x)


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
    x = depthwise(x, kernel, stride, style=style, name=name)
    x = style.norm(x, f"{name}_norm")
    if activation is None:
        return x
    return activate(x, activation, style=style, name=name)


def depthwise(
    x: keras.KerasTensor,
    kernel: int,
    stride: int,
    *,
    style: Style,
    name: str,
    bias: bool | None = None,
) -> keras.KerasTensor:
    """The convolution of `depthwise_norm` alone. `bias` None: it has one only where there are no
    norms.
    """
    x, padding = _pad(x, kernel, stride, style, name)
    return keras.layers.DepthwiseConv2D(
        kernel,
        stride,
        padding=padding,
        use_bias=_has_bias(style) if bias is None else bias,
        depthwise_initializer=style.initializer.depthwise_kernel(),
        name=name,
    )(x)


def activate(
    x: keras.KerasTensor, activation: str, *, style: Style, name: str
) -> keras.KerasTensor:
    """`activation`, or the one that the style puts in its place: [B, H, W, C] -> the same.

    Raises:
        ConfigError: the style asks for maxout, which only a convolution right before it can feed.
    """
    if style.activation == "maxout":
        raise ConfigError(
            f"model.activation: maxout needs a convolution right before it, and {name} has none;"
            " take a plain network, such as an AlexNet or VGG, or another activation"
        )
    return activation_layer(style.activation or activation, name)(x)


def squeeze_excite(
    x: keras.KerasTensor, channels: int, *, style: Style, activation: str, gate: str, name: str
) -> keras.KerasTensor:
    """Multiply each channel by a gate computed from all channels' means (Hu et al. 2018, figure 2).

    Args:
        x: [B, H, W, C].
        channels: of the bottleneck between the two fully connected layers, which have biases.
        style: how kernels start out.
        activation: of the bottleneck, unless `style` has another.
        gate: name of the Keras activation of the gates.
        name: prefix of the layers' names.
    """
    y = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    plain = style.without_norm()
    y = convolution(y, channels, 1, 1, style=plain, name=f"{name}_reduce")
    inner = style.gate_activation or activation
    y = keras.layers.Activation(inner, name=f"{name}_reduce_{inner}")(y)
    y = convolution(y, x.shape[-1], 1, 1, style=plain, name=f"{name}_expand")
    y = keras.layers.Activation(gate, name=f"{name}_gate")(y)
    return keras.layers.Multiply(name=f"{name}_scale")([x, y])


def stem_pool(stem: keras.KerasTensor, *, style: Style) -> keras.KerasTensor:
    """The 3×3 max-pooling after a stem, with stride 2: [B, H, W, C] -> [B, ceil(H / 2), ceil(W /
    2), C], padded as `style` says. `stem` is not negative.
    """
    if style.one_sided:
        return MaxPooling2D(3, 2, padding="same", name="stem_pool")(stem)
    return max_pool(stem, 3, 2, padding=1, name="stem_pool")


def max_pool(
    x: keras.KerasTensor, size: int, stride: int, *, name: str, padding: int | None = None
) -> keras.KerasTensor:
    """Max-pooling after a rectifier: zeros stand for what is beyond the edge.

    Args:
        x: [B, H, W, C], not negative where it is padded.
        size: height and width of a window.
        stride: pixels between two windows.
        name: of the layer.
        padding: pixels on each side. None: as many below and to the right as let the last window
            begin inside, as Caffe does.

    Returns:
        [B, h, w, C].
    """
    if padding is None:
        # Windows smaller than their size only where the image is.
        beyond = [max(size - pixels, (size - pixels) % stride) for pixels in x.shape[1:3]]
        pads = tuple((0, missing) for missing in beyond)
    else:
        pads = ((padding, padding),) * 2
    if any(map(any, pads)):
        x = keras.layers.ZeroPadding2D(pads, name=f"{name}_pad")(x)
    return MaxPooling2D(size, stride, name=name)(x)


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
    x: keras.KerasTensor,
    kernel: int | tuple[int, int],
    stride: int,
    style: Style,
    name: str,
    padding: int | None = None,
) -> tuple[keras.KerasTensor, str]:
    """`x`, padded where the layer can't do it itself, and the `padding` argument the layer needs
    then.
    """
    if padding is None and (stride == 1 or kernel == 1 or style.one_sided):
        return x, "same"
    if padding is None:
        # With a stride, "same" pads an even image on one side only: half a pixel off from the
        # papers' and torchvision's networks.
        padding = (kernel if isinstance(kernel, int) else max(kernel)) // 2
    if padding == 0:
        return x, "valid"
    return keras.layers.ZeroPadding2D(padding, name=f"{name}_pad")(x), "valid"
