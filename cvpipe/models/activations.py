"""Activations between layers, by name."""

from __future__ import annotations

from typing import Any

import keras

HUNDREDTH = 0.01
"""Slope of the leaky ReLU below 0 (Maas et al. 2013)."""


def activation_layer(kind: str, name: str) -> keras.layers.Layer:
    """Return a new layer for `kind`: "leaky", "prelu", "maxout" or the name of a Keras activation.
    The layer is called `{name}_{kind}`.
    """
    full = f"{name}_{kind}"
    match kind:
        case "leaky":
            return keras.layers.Activation(leaky_hundredth, name=full)
        case "prelu":
            # One slope per channel, initially 0.25 (He et al. 2015, Delving deep, section 2.1).
            quarter = keras.initializers.Constant(0.25)
            return keras.layers.PReLU(quarter, shared_axes=[1, 2], name=full)
        case "maxout":
            return Maxout(name=full)
    return keras.layers.Activation(kind, name=full)


@keras.saving.register_keras_serializable("cvpipe")
def leaky_hundredth(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return x if positive, else x / 100."""
    # TensorFlow's graph optimizer fails on LeakyRelu's gradient after a bias.
    return keras.ops.maximum(x, HUNDREDTH * x)


@keras.saving.register_keras_serializable("cvpipe")
class Maxout(keras.layers.Layer):
    """Elementwise maximum of the first and second half of the channels (Goodfellow et al. 2013).

    float [B, H, W, 2 × C] -> [B, H, W, C].
    """

    def call(self, x: Any) -> Any:
        """Return the maximum of both halves."""
        first, second = keras.ops.split(x, 2, axis=-1)
        return keras.ops.maximum(first, second)
