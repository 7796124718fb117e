"""Gradients through modified ReLUs: guided backpropagation and deconvnet."""

from __future__ import annotations

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
    network, found, relu = subject.network, 0, _relu(rule)

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        nonlocal found
        config = layer.get_config()
        if isinstance(layer, keras.layers.ReLU):
            found += 1
            return keras.layers.Activation(relu, name=layer.name)
        if getattr(layer, "activation", None) is keras.activations.relu:
            found += 1
            own = type(layer).from_config(config)
            own.activation = relu
            return own
        return type(layer).from_config(config)

    changed = keras.models.clone_model(network, clone_function=copy)
    if not found:
        raise ConfigError(
            "the method changes the gradients of ReLUs, and the network has none; use saliency"
        )
    changed.set_weights(network.get_weights())
    return subject._replace(network=changed)


def _relu(rule: Rule) -> Callable[[tf.Tensor], tf.Tensor]:
    @tf.custom_gradient
    def relu(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(dy: tf.Tensor) -> tf.Tensor:
            positive = tf.nn.relu(dy)
            return tf.where(x > 0, positive, 0.0) if rule == "guided" else positive

        return tf.nn.relu(x), gradient

    return relu
