"""Networks for inference, in which batch normalizations are part of the convolutions before them.

In inference, a batch normalization is a linear function of each channel. Keras computes it in two
operations after the convolution, each of which reads and writes the whole feature map.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


def folded(network: keras.Model, inputs: Sequence[keras.KerasTensor] | None = None) -> keras.Model:
    """Return a copy of a functional network with the same outputs in inference, up to rounding.

    Layers keep their names. A convolution or dense layer with a batch normalization after it
    returns normalized values, and the normalization is an identity.

    Args:
        network: it doesn't change.
        inputs: inputs of the copy, which may have another size; None: as those of the network.
    """
    norms = _norms(network)
    merged = {norm.name for norm in norms.values()}

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer.name in merged:
            return keras.layers.Identity(name=layer.name, dtype=layer.dtype_policy)
        changes = {"use_bias": True} if layer.name in norms else {}
        return type(layer).from_config({**layer.get_config(), **changes})

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        # A normalization is called with a mask, which an identity doesn't know.
        return layer(args[0]) if layer.name in merged else layer(*args, **kwargs)

    changed = keras.models.clone_model(network, inputs, copy, call)
    for layer in network.layers:
        if not layer.weights or layer.name in merged:
            continue
        norm = norms.get(layer.name)
        weights = layer.get_weights() if norm is None else _merge(layer, norm)
        changed.get_layer(layer.name).set_weights(weights)
    return changed


def is_foldable(network: keras.Model) -> bool:
    """Return True if `folded` removes at least one batch normalization of a functional network."""
    return bool(_norms(network))


def _norms(network: keras.Model) -> dict[str, keras.layers.BatchNormalization]:
    """Return the batch normalizations that can be merged, by the names of the layers before."""
    read = Counter(
        id(x)
        for operation in network.operations
        for node in operation._inbound_nodes
        for x in node.input_tensors
    )
    read.update(id(x) for x in network.outputs)
    before = {
        id(layer.output): layer
        for layer in network.layers
        if len(layer._inbound_nodes) == 1 and _is_linear(layer)
    }
    found = {}
    for norm in network.layers:
        if (
            isinstance(norm, keras.layers.BatchNormalization)
            and len(norm._inbound_nodes) == 1
            and norm.axis in (-1, len(norm.input.shape) - 1)
            and id(norm.input) in before
            and read[id(norm.input)] == 1
        ):
            found[before[id(norm.input)].name] = norm
    return found


def _is_linear(layer: keras.layers.Layer) -> bool:
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    return isinstance(layer, kinds) and layer.activation is keras.activations.linear


def _merge(layer: Any, norm: keras.layers.BatchNormalization) -> list[np.ndarray]:
    """Return the kernel and the bias of a layer that normalizes its outputs."""
    kernel, *bias = layer.get_weights()
    scale = 1 / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma.numpy()
    shift = (bias[0] if bias else 0) - norm.moving_mean.numpy()
    offset = norm.beta.numpy() if norm.center else 0
    # A depthwise kernel is [h, w, C, M], and its outputs are C × M channels.
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    factors = scale.reshape(kernel.shape[-2:]) if depthwise else scale
    return [kernel * factors, scale * shift + offset]
