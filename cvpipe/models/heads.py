"""Heads of classifiers."""

from __future__ import annotations

from typing import Any

import keras

from cvpipe.errors import ConfigError
from cvpipe.models.blocks import Style
from cvpipe.models.catalog import Network
from cvpipe.models.fully_connected import fully_connected
from cvpipe.models.random_layers import DropConnect, Dropout


def classifier(
    features: dict[int, keras.KerasTensor],
    classes: int,
    *,
    dropout: float,
    drop_connect: float,
    bias: float,
    style: Style,
    network: Network | None = None,
    width: float = 1.0,
) -> keras.KerasTensor:
    """Apply fully connected layers to the coarsest map, average it globally, and return logits.

    Args:
        features: {stride: [B, H, W, C]}.
        classes: number of logits.
        dropout: rate for the input of the last layer; 0 for none.
        drop_connect: share of the last layer's weights that is dropped in training; 0 for none.
        bias: initial value of the logits' biases.
        style: kernel initializers.
        network: the catalog's entry, which lists the layers between backbone and logits; None for a
            network without such layers.
        width: multiplies the units of fully connected layers before the average.

    Returns:
        logits [B, classes], float32 under every dtype policy.

    Raises:
        ConfigError: `drop_connect` for a network whose last layer is a convolution.
    """
    x = features[max(features)]
    if network and network.fully_connected:
        size, fully, first = network.fully_connected
        x = fully_connected(x, size=size, units=fully, first=first, width=width, style=style)
    if network and network.class_maps:
        if drop_connect > 0:
            raise ConfigError(
                "model.drop_connect: the last layer is a convolution here; use model.dropout"
            )
        return _average_of_maps(x, classes, dropout=dropout, bias=bias, style=style)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    hidden, activation = (network.hidden, network.hidden_activation) if network else ((), "relu")
    for index, units in enumerate(hidden):
        tanh = activation == "tanh"
        initializer = (style.initializer.for_tanh() if tanh else style.initializer).kernel()
        x = keras.layers.Dense(
            units, activation=activation, kernel_initializer=initializer, name=f"hidden{index + 1}"
        )(x)
    if dropout > 0:
        x = Dropout(dropout, name="dropout")(x)
    settings: dict[str, Any] = {"bias": bias, "style": style, "name": "logits"}
    return last_layer(classes, drop_connect=drop_connect, **settings)(x)


def last_layer(
    classes: int, *, bias: float, style: Style, name: str, drop_connect: float = 0.0
) -> keras.layers.Layer:
    """Return a dense layer, [B, N] -> logits float32 [B, classes]. Arguments as for
    `classifier`.
    """
    settings = {**_last_settings(bias, style), "name": name}
    if drop_connect > 0:
        return DropConnect(classes, drop_connect, **settings)
    return keras.layers.Dense(classes, **settings)


def _average_of_maps(
    x: keras.KerasTensor, classes: int, *, dropout: float, bias: float, style: Style
) -> keras.KerasTensor:
    """Average the logits of all pixels (Lin et al. 2013, section 3.2): [B, H, W, C] -> float32 [B,
    classes].
    """
    if dropout > 0:
        x = Dropout(dropout, name="dropout")(x)
    x = keras.layers.Conv2D(classes, 1, name="logits", **_last_settings(bias, style))(x)
    return keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)


def _last_settings(bias: float, style: Style) -> dict[str, Any]:
    return {
        "kernel_initializer": last_kernel(style),
        "bias_initializer": keras.initializers.Constant(bias),
        "dtype": "float32",
    }


def last_kernel(style: Style) -> keras.initializers.Initializer:
    """Kernel initializer for output layers."""
    if style.initializer.kind == "he":
        # Small weights, so all classes or boxes have about the same initial probability (Goyal et
        # al. 2017, section 5.1; Lin et al. 2017, 4.1).
        return keras.initializers.RandomNormal(stddev=0.01)
    return style.initializer.kernel()


def decoder_kernel(style: Style) -> keras.initializers.Initializer:
    """Kernel initializer for the output layer of decoders with few channels.

    With the small weights of `last_kernel`, the initial logits of 16 channels are dominated by the
    biases. Biases quickly learn that most pixels are background, and with few and varied objects
    the network never leaves this state. A fifth of the variance-preserving variance is enough; the
    initial loss is then within 5 % of the logarithm of the number of classes.
    """
    if style.initializer.kind == "he":
        return keras.initializers.VarianceScaling(0.2, "fan_in", "truncated_normal")
    return style.initializer.kernel()
