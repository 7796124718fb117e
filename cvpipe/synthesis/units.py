"""Units of a network, and their activation as a score of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cvpipe.errors import ConfigError, suggest
from cvpipe.models.folded import folded

Activation = Callable[[tf.Tensor], tf.Tensor]
"""Maps prepared images [B, H, W, C] to the activations of one unit per image, float32 [B]."""


class Unit(NamedTuple):
    """A layer, a channel of the layer, or a neuron of the channel."""

    layer: str
    channel: int | None = None
    """None for the whole layer."""
    place: tuple[int, int] | None = None
    """Row and column of a neuron; None for the mean of its channel."""

    def __str__(self) -> str:
        """Return the unit as a user writes it."""
        place = "" if self.place is None else f":{self.place[0]},{self.place[1]}"
        return self.layer + ("" if self.channel is None else f":{self.channel}") + place


def parse_unit(text: str) -> Unit:
    """Parse a unit written as LAYER, LAYER:CHANNEL or LAYER:CHANNEL:Y,X.

    Raises:
        ConfigError: the text has another form.
    """
    layer, *rest = text.split(":")
    try:
        channel = int(rest[0]) if rest else None
        place = tuple(int(part) for part in rest[1].split(",")) if len(rest) > 1 else None
        if not layer or len(rest) > 2 or (place is not None and len(place) != 2):
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"--unit {text}: not a unit; write LAYER, LAYER:CHANNEL or LAYER:CHANNEL:Y,X, such as"
            " stage2:7"
        ) from None
    return Unit(layer, channel, None if place is None else (place[0], place[1]))


def find_layer(network: keras.Model, name: str, option: str = "--layer") -> keras.layers.Layer:
    """Return the layer called `name`.

    Raises:
        ConfigError: there is no layer with this name whose output is a single feature map or
            vector.
    """
    found = {layer.name: layer for layer in network.layers if _has_activation(layer)}
    if name not in found:
        raise ConfigError(f"{option} {name}: no such layer; {suggest(name, found)}")
    return found[name]


def find_units(network: keras.Model, units: Sequence[Unit]) -> keras.layers.Layer:
    """Return the layer to which all units belong.

    Raises:
        ConfigError: the layer, a channel or a position doesn't exist.
    """
    layer = find_layer(network, units[0].layer, "--unit")
    shape = layer.output.shape[1:]
    for unit in units:
        if unit.channel is not None and not 0 <= unit.channel < shape[-1]:
            raise ConfigError(
                f"--unit {unit}: {unit.layer} has channels 0 to {shape[-1] - 1}; choose one of them"
            )
        if unit.place is None:
            continue
        if len(shape) != 3:
            raise ConfigError(
                f"--unit {unit}: {unit.layer} has no positions; leave"
                f" ':{unit.place[0]},{unit.place[1]}' out"
            )
        if not all(0 <= n < length for n, length in zip(unit.place, shape[:2], strict=True)):
            raise ConfigError(
                f"--unit {unit}: {unit.layer} has rows 0 to {shape[0] - 1} and columns 0 to"
                f" {shape[1] - 1}; choose a position among them"
            )
    return layer


def activation_of(network: keras.Model, units: Sequence[Unit]) -> Activation:
    """Return a function that maps B images to the activations of B units of one layer, one unit per
    image. The activation is the value of a neuron, the mean of a channel, or the mean square of a
    layer.

    Raises:
        ConfigError: a unit doesn't exist.
    """
    layer = find_units(network, units)
    model = keras.Model(network.inputs, layer.output)
    shape = tuple(length or 1 for length in layer.output.shape[1:])
    weights = tf.constant(np.stack([_weights(unit, shape) for unit in units]))
    whole = tf.constant([unit.channel is None for unit in units])
    axes = list(range(1, len(shape) + 1))

    def activation(images: tf.Tensor) -> tf.Tensor:
        features = tf.cast(model(images, training=False), tf.float32)
        linear = tf.reduce_sum(weights * features, axes)
        return tf.where(whole, tf.reduce_mean(tf.square(features), axes), linear)

    return activation


def at_size(
    network: keras.Model, layer: keras.layers.Layer, size: tuple[int, int]
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the part of a network up to a layer, rebuilt for inference on images of another size:
    it maps prepared images [B, *size, C] to the layer's output.

    Raises:
        ConfigError: the part has a layer that fits only one image size.
    """
    part = keras.Model(network.inputs, layer.output)
    image = keras.Input((*size, network.inputs[0].shape[-1]))
    try:
        changed = folded(part, [image])
    except ValueError as error:
        raise ConfigError(
            f"--layer {layer.name}: can't be computed for images of {size[0]}×{size[1]} pixels"
            f" ({str(error).splitlines()[0][:200]}); choose a layer before it, or another size"
        ) from None

    def features(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(changed(images, training=False), tf.float32)

    return features


def _weights(unit: Unit, shape: tuple[int, ...]) -> np.ndarray:
    """Return the weights, float32 [h, w, F] or [F], with which the sum of a layer's values is the
    unit's activation; zeros for a whole layer.
    """
    weights = np.zeros(shape, np.float32)
    if unit.channel is None:
        return weights
    if unit.place is not None:
        weights[(*unit.place, unit.channel)] = 1
        return weights
    weights[..., unit.channel] = 1 / max(int(np.prod(shape[:-1])), 1)
    return weights


def _has_activation(layer: Any) -> bool:
    if isinstance(layer, keras.layers.InputLayer) or len(layer._inbound_nodes) != 1:
        return False
    return len(getattr(layer.output, "shape", ())) in (2, 4)
