"""Heads: what turns a backbone's features into raw answers."""

from __future__ import annotations

import keras

from cvpipe.models.blocks import Style
from cvpipe.models.random_layers import DropConnect, Dropout


def classifier(
    features: dict[int, keras.KerasTensor],
    classes: int,
    *,
    dropout: float,
    drop_connect: float,
    bias: float,
    style: Style,
    hidden: tuple[int, ...] = (),
) -> keras.KerasTensor:
    """Global average of the coarsest map, fully connected layers, logits.

    Args:
        features: {stride: [B, H, W, C]}.
        classes: number of logits.
        dropout: share of what enters the last layer that is dropped in training; 0 for none.
        drop_connect: share of the last layer's weights that is dropped in training; 0 for none.
        bias: what all logits start out around.
        style: how kernels start out.
        hidden: units of the tanh layers before the last one.

    Returns:
        logits [B, classes], float32 under every dtype policy.
    """
    x = keras.layers.GlobalAveragePooling2D(name="pool")(features[max(features)])
    for index, units in enumerate(hidden):
        initializer = style.initializer.for_tanh().kernel()
        x = keras.layers.Dense(
            units, activation="tanh", kernel_initializer=initializer, name=f"hidden{index + 1}"
        )(x)
    if dropout > 0:
        x = Dropout(dropout, name="dropout")(x)
    settings = {
        "kernel_initializer": last_kernel(style),
        "bias_initializer": keras.initializers.Constant(bias),
        "dtype": "float32",
        "name": "logits",
    }
    if drop_connect > 0:
        return DropConnect(classes, drop_connect, **settings)(x)
    return keras.layers.Dense(classes, **settings)(x)


def last_kernel(style: Style) -> keras.initializers.Initializer:
    """Kernel initializer for output layers."""
    if style.initializer.kind == "he":
        # Small weights, so that every class, or box, starts out about as likely (Goyal et al. 2017,
        # section 5.1; Lin et al. 2017, 4.1).
        return keras.initializers.RandomNormal(stddev=0.01)
    return style.initializer.kernel()


def decoder_kernel(style: Style) -> keras.initializers.Initializer:
    """Return how the kernel starts that makes a decoder's few channels into answers.

    With the small weights of `last_kernel`, the logits of 16 channels are all but the biases at
    first. Biases learn fastest that most pixels are background, and where objects are few and look
    unlike each other the network stays there. A fifth of the variance that keeps the features' own
    is enough, and a new network's loss stays within a twentieth of the logarithm of the classes.
    """
    if style.initializer.kind == "he":
        return keras.initializers.VarianceScaling(0.2, "fan_in", "truncated_normal")
    return style.initializer.kernel()
