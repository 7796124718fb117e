"""Gradients through modified ReLUs: guided backpropagation and deconvnet."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import keras
import tensorflow as tf

from cvpipe.errors import ConfigError
from cvpipe.explain.gradients import pixel_gradient
from cvpipe.explain.score import Subject

Rule = Literal["guided", "deconvnet"]


def guided_backprop(changed: Subject, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Return the largest absolute gradient over channels, float32 [B, H, W]. `changed` is a subject
    from `with_rule`.
    """
    return tf.reduce_max(tf.abs(pixel_gradient(changed.score, images, classes)), axis=-1)


def with_rule(subject: Subject, rule: Rule) -> Subject:
    """Return a copy of the network whose ReLUs pass only positive gradients: those of active units
    ("guided", Springenberg et al. 2015) or of all units ("deconvnet", Zeiler and Fergus 2014).

    Call it outside of graphs, because it makes layers.

    Raises:
        ConfigError: the network has no ReLU.
    """
    network, found = subject.network, 0

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        nonlocal found
        limit = _limit(layer)
        if limit is None:
            return type(layer).from_config(layer.get_config())
        found += 1
        relu = _relu(rule, limit)
        if isinstance(layer, keras.layers.ReLU):
            return keras.layers.Activation(relu, name=layer.name)
        copied = type(layer).from_config(layer.get_config())
        copied.activation = relu
        return copied

    changed = keras.models.clone_model(network, clone_function=copy)
    if not found:
        raise ConfigError(
            "the method changes the gradients of ReLUs, and the network has none; use saliency"
        )
    changed.set_weights(network.get_weights())
    return subject._replace(network=changed)


def _limit(layer: keras.layers.Layer) -> float | None:
    """Return the largest value of a layer's ReLU; None if it has none."""
    if isinstance(layer, keras.layers.ReLU):
        plain = not layer.negative_slope and not layer.threshold
        limit = math.inf if layer.max_value is None else layer.max_value
        return limit if plain else None
    limits = {keras.activations.relu: math.inf, keras.activations.relu6: 6.0}
    return limits.get(getattr(layer, "activation", None))


def _relu(rule: Rule, limit: float) -> Callable[[tf.Tensor], tf.Tensor]:
    @tf.custom_gradient
    def relu(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(dy: tf.Tensor) -> tf.Tensor:
            positive = tf.nn.relu(dy)
            return tf.where((x > 0) & (x < limit), positive, 0.0) if rule == "guided" else positive

        return tf.minimum(tf.nn.relu(x), limit), gradient

    return relu
