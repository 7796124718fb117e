"""Cost of a network: multiply-adds."""

from __future__ import annotations

from math import prod

import keras


def multiply_adds(model: keras.Model) -> int:
    """Count the multiplications by weights of convolutions and dense layers for one image, as
    torchvision does.

    Biases, norms, activations and pooling aren't counted. The pixels that are cropped after a
    transposed convolution are counted.

    Args:
        model: a functional model of plain layers, each used once, with a fixed image size.
    """
    return sum(layer_multiply_adds(layer) for layer in model.layers)


def layer_multiply_adds(layer: keras.layers.Layer) -> int:
    """Count the multiplications of `layer` as `multiply_adds` does."""
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return prod(layer.input.shape[1:-1]) * prod(layer.kernel.shape)
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)):
        return prod(layer.output.shape[1:-1]) * prod(layer.kernel.shape)
    return 0
