"""Activations of a deep network before it is trained, by the scale of its weights (CS231n, Training
neural networks: weight initialization, batch normalization).

Dimensions: B examples, U units of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from cvpipe.models.blocks import Style, conv_norm
from cvpipe.models.initializers import Initializer
from cvpipe.models.norms import Norm

LAYERS, UNITS, EXAMPLES = 10, 500, 1000
"""Sizes of the lecture's experiment."""
SMALL, LARGE = Initializer("gaussian", 0.01), Initializer("gaussian", 1.0)
XAVIER, HE = Initializer("xavier"), Initializer("he")
NONE = Norm("none")
STARTS: Mapping[str, Style] = {
    "tanh, std 0.01": Style(NONE, SMALL, activation="tanh"),
    "tanh, std 1": Style(NONE, LARGE, activation="tanh"),
    "tanh, Xavier": Style(NONE, XAVIER, activation="tanh"),
    "ReLU, std 0.01": Style(NONE, SMALL, activation="relu"),
    "ReLU, Xavier": Style(NONE, XAVIER, activation="relu"),
    "ReLU, He": Style(NONE, HE, activation="relu"),
    "tanh, std 0.01, batch norm": Style(Norm("batch"), SMALL, activation="tanh"),
    "ReLU, std 0.01, batch norm": Style(Norm("batch"), SMALL, activation="relu"),
}
"""The lecture's initializations, by title."""


def initial_activations(
    starts: Mapping[str, Style] = STARTS, seed: int = 0
) -> dict[str, dict[str, np.ndarray]]:
    """Return the activations of the lecture's network for random inputs of mean 0 and variance 1:
    by title of the initialization and by layer, float32 [B, U].

    Sets Keras's random seed.
    """
    inputs = tf.random.stateless_normal([EXAMPLES, 1, 1, UNITS], [seed, 0])
    found = {}
    for title, style in starts.items():
        keras.utils.set_random_seed(seed)
        found[title] = activations(deep_network(style), inputs)
    return found


def deep_network(style: Style, layers: int = LAYERS, units: int = UNITS) -> keras.Model:
    """Build a network of fully connected layers, written as 1×1 convolutions of one pixel: float
    [B, 1, 1, U] -> the same.
    """
    x = inputs = keras.Input((1, 1, units), name="inputs")
    for number in range(1, layers + 1):
        x = conv_norm(x, units, 1, 1, style=style, activation="relu", name=f"layer{number}")
    return keras.Model(inputs, x, name="deep")


def activations(network: keras.Model, inputs: tf.Tensor) -> dict[str, np.ndarray]:
    """Return the outputs of a network's activation layers, float32 [B, …], by layer name without
    the suffix that names the function.

    Batch norms use the statistics of the inputs, as in training.
    """
    layers = [layer for layer in network.layers if isinstance(layer, keras.layers.Activation)]
    inner = keras.Model(network.input, [layer.output for layer in layers])
    # Keras returns a single output without a list.
    outputs = tf.nest.flatten(inner(inputs, training=True))
    names = [layer.name.rpartition("_")[0] or layer.name for layer in layers]
    return {
        name: np.asarray(x, np.float32).reshape(len(x), -1)
        for name, x in zip(names, outputs, strict=True)
    }
