"""Cost of a network: parameters and multiply-adds."""

from __future__ import annotations

from math import prod
from typing import Any

import keras

from cvpipe.models.abstract import without_weights
from cvpipe.models.build import classification_network, published


def multiply_adds(model: keras.Model) -> int:
    """Multiplications with a weight that one image takes, as torchvision counts: convolutions and
    dense layers.

    Biases, norms, activations and pooling are left out. A transposed convolution is counted before
    it is cropped.

    Args:
        model: a functional model of plain layers, each used once, with a fixed image size.
    """
    return sum(_multiply_adds(layer) for layer in model.layers)


def describe(name: str) -> dict[str, Any]:
    """The network `name` as it was published, in plain JSON values.

    Returns:
        name, task, parameters (BatchNorm's moving statistics included), trainable_parameters, macs,
        input_shape (height,
        width, channels) and paper.

    Raises:
        ConfigError: the catalog has no such network.
    """
    network = published(name)
    with without_weights():
        model = classification_network(name, network.input_shape, network.classes)
    return {
        "name": name,
        "task": "classification",
        "parameters": model.count_params(),
        "trainable_parameters": sum(prod(variable.shape) for variable in model.trainable_variables),
        "macs": multiply_adds(model),
        "input_shape": list(network.input_shape),
        "paper": network.paper,
    }


def _multiply_adds(layer: keras.layers.Layer) -> int:
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return prod(layer.input.shape[1:-1]) * prod(layer.kernel.shape)
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)):
        return prod(layer.output.shape[1:-1]) * prod(layer.kernel.shape)
    return 0
