"""Transfer of weights from another Keras model with the same structure.

Both graphs are traversed from the output, and layers are paired by position, so names don't matter.
This works for the classifiers of Keras Applications.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from cvpipe.errors import ConfigError


def transfer(source: keras.Model, target: keras.Model) -> None:
    """Assign the weights of `source` to `target`, both functional models with one output.

    Kernels that differ only in dimensions of length 1, such as those of a fully connected layer and
    a 1×1 convolution, are reshaped, and the kernel of a flattened map becomes that of a
    convolution. For a BatchNorm without a scale, the scale becomes 1. Additional layers of `source`
    must not have weights, except for `Normalization`, which is ignored.

    Raises:
        ConfigError: the networks differ.
    """
    source_weights = [
        (name, value)
        for layer in _walk(source)
        if not isinstance(layer, keras.layers.Normalization)
        for name, value in _weights(layer)
    ]
    for layer in _walk(target):
        for name, variable in _weights(layer):
            if name == "gamma" and (not source_weights or source_weights[0][0] != "gamma"):
                variable.assign(np.ones(variable.shape))
                continue
            if not source_weights:
                raise ConfigError(f"{source.name} has no weights left for {variable.path}")
            _, value = source_weights.pop(0)
            if not _fits(value, variable):
                raise ConfigError(
                    f"{source.name} has {tuple(value.shape)} where {variable.path} of"
                    f" {target.name} is {tuple(variable.shape)}: the networks differ"
                )
            variable.assign(np.reshape(value, variable.shape))
    if source_weights:
        raise ConfigError(
            f"{target.name} has no place for {len(source_weights)} weights of {source.name}"
        )


def _fits(value: Any, variable: Any) -> bool:
    """Return True if both have the same dimensions apart from 1s, or `value` is flattened."""
    target, source = ([size for size in x.shape if size > 1] for x in (variable, value))
    flattened = len(value.shape) == 2 and value.shape[-1] == variable.shape[-1]
    return target == source or (flattened and np.prod(value.shape) == np.prod(variable.shape))


def _weights(layer: keras.layers.Layer) -> Iterator[tuple[str, Any]]:
    """Yield the names and weights of a layer."""
    for variable in layer.weights:
        yield variable.name, variable


def _walk(model: keras.Model) -> list[Any]:
    """Return the layers with weights. Inputs precede outputs; if a layer has several inputs, the
    first input's layers come first.
    """
    order: list[Any] = []
    [output] = keras.tree.flatten(model.output)
    waiting, seen = [(output._keras_history.operation, False)], set()
    while waiting:
        operation, ready = waiting.pop()
        if ready:
            order.append(operation)
        elif id(operation) not in seen:
            seen.add(id(operation))
            waiting.append((operation, True))
            inputs = keras.tree.flatten(operation.input) if operation._inbound_nodes else []
            before = [x._keras_history.operation for x in inputs]
            waiting += [(o, False) for o in reversed(before) if o is not operation]
    return [layer for layer in order if getattr(layer, "weights", [])]
