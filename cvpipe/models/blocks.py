"""Building blocks shared by several networks.

Image tensors are [B, H, W, C]. A block names its layers after its argument `name` (`stem`,
`stem_norm`, `stem_relu`), because variable paths are the keys of checkpoints.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import keras

from cvpipe.errors import ConfigError
from cvpipe.models.activations import activation_layer
from cvpipe.models.grouped_conv import GroupedConv2D
from cvpipe.models.initializers import Initializer
from cvpipe.models.norms import Norm
from cvpipe.models.pooling import MaxPooling2D
from cvpipe.models.random_layers import StochasticDepth

NARROW = 16
"""Number of float32 values in an AVX-512 vector."""


class Style(NamedTuple):
    """Settings of layers, shared by all networks."""

    norm: Norm = Norm()
    """Normalization after each convolution."""
    initializer: Initializer = Initializer()
    """Initializer of kernels."""
    stochastic_depth: float = 0.0
    """Drop rate of the last residual branch in training; it increases linearly over the branches.
    """
    branches: int = 1
    """Number of residual branches in the network."""
    padding: Literal["torch", "tensorflow"] | None = None
    """Padding of strided convolutions. torch: on both sides. tensorflow: images of even size only
    at the bottom and right. None: as in the network's paper.
    """
    projected: bool = False
    """Begin every stage of residual blocks with a projection, even if it doesn't change the shape.
    """
    gate_activation: str | None = None
    """Activation in squeeze-and-excitation; None: the activation in the network's paper."""
    activation: str | None = None
    """Activation between layers; None: the activation in the network's paper."""
    drop_path: float | None = None
    """Share of paths dropped in training, in networks that have several paths; None: the share in
    the network's paper.
    """

    def without_norm(self) -> Style:
        """Return the style without norms, for layers that were published without them."""
        return self._replace(norm=Norm("none"))

    def ending_branch(self) -> Style:
        """Return the style of the last convolution of a residual branch.

        Without norms, each branch with He initialization would double the variance. Here branches
        are scaled by 1 / √branches, so all of them together multiply the variance by less than e
        (Hayou et al. 2021, Stable ResNet).
        """
        gain = self.branches**-0.5 if self.norm.kind == "none" else 1.0
        return self._replace(initializer=self.initializer._replace(gain=gain))


def scale_channels(channels: int, width: float) -> int:
    """Return `width` × `channels`, rounded, at least 1."""
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
    """Apply convolution, norm and activation.

    The convolution has a bias only without a norm, since the norm's shift has the same effect.

    Output pixel (i, j) is centered on input pixel (stride × i, stride × j), unless `style` pads one
    side only or `padding` is given.

    Args:
        x: [B, H, W, C].
        filters: channels of the output.
        kernel: height and width of the kernel; odd, unless `padding` is given.
        stride: stride in pixels of `x`.
        style: settings of the layers.
        activation: name of a Keras activation; None for a linear output.
        name: prefix of the layers' names.
        groups: number of channel groups.
        padding: zeros on each side; None: half the kernel.

    Returns:
        [B, ceil(H / stride), ceil(W / stride), filters].
    """
    # Maxout takes the larger of two linear functions, so it needs twice the channels.
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

    `bias` is True if the convolution has a bias; None: only without norms.
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
    """Apply the convolution of `conv_norm` alone. `bias` is True if the convolution has a bias;
    None: only without norms.
    """
    if kernel == 1 and stride > 1 and x.shape[-1] < NARROW:
        # oneDNN's gradient of such a kernel writes past its buffer (uxlfoundation/oneDNN#6035),
        # which gives wrong weights or a crash. So drop the skipped pixels first.
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
    """Apply `conv_norm` with one filter per channel: [B, H, W, C] -> [B, ceil(H / stride), ceil(W /
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
    """Apply the convolution of `depthwise_norm` alone; `bias` as for `convolution`."""
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
    """Apply `activation`, or the style's replacement: [B, H, W, C] -> the same.

    Raises:
        ConfigError: the style has maxout, which needs a convolution right before it.
    """
    if style.activation == "maxout":
        raise ConfigError(
            f"model.activation: maxout needs a convolution right before it, and {name} has none;"
            " choose a plain network, such as an AlexNet or VGG, or another activation"
        )
    return activation_layer(style.activation or activation, name)(x)


def squeeze_excite(
    x: keras.KerasTensor, channels: int, *, style: Style, activation: str, gate: str, name: str
) -> keras.KerasTensor:
    """Multiply each channel by a gate computed from the means of all channels (Hu et al. 2018,
    figure 2).

    Args:
        x: [B, H, W, C].
        channels: units of the first of the two fully connected layers, which have biases.
        style: kernel initializers.
        activation: activation after the first layer, unless `style` has another.
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
    """Apply the 3×3 max-pooling after a stem, with stride 2 and the padding of `style`: [B, H, W,
    C] -> [B, ceil(H / 2), ceil(W / 2), C]. The values of `stem` must not be negative.
    """
    if style.padding == "tensorflow":
        return MaxPooling2D(3, 2, padding="same", name="stem_pool")(stem)
    return max_pool(stem, 3, 2, padding=1, name="stem_pool")


def max_pool(
    x: keras.KerasTensor, size: int, stride: int, *, name: str, padding: int | None = None
) -> keras.KerasTensor:
    """Apply max-pooling with zero padding to the output of a rectifier.

    Args:
        x: [B, H, W, C]; if it is padded, its values must not be negative.
        size: height and width of a window.
        stride: stride of the windows.
        name: name of the layer.
        padding: pixels on each side. None: only below and to the right, so that the last window
            begins inside, as in Caffe.

    Returns:
        [B, h, w, C].
    """
    if padding is None:
        # An image smaller than a window is padded to the size of the window.
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
    """Return identity + branch, both [B, H, W, C]; in training, the branch is dropped for a share
    `drop` of the examples.
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
    """Pad `x` if the layer's own padding doesn't fit. Return `x` and the layer's `padding`
    argument.
    """
    if padding is None and (stride == 1 or kernel == 1 or style.padding == "tensorflow"):
        return x, "same"
    if padding is None:
        # With a stride, "same" pads images of even size on one side only, which shifts the output
        # by half a pixel from that of the papers and torchvision.
        padding = (kernel if isinstance(kernel, int) else max(kernel)) // 2
    if padding == 0:
        return x, "valid"
    return keras.layers.ZeroPadding2D(padding, name=f"{name}_pad")(x), "valid"
