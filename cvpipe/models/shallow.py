"""Baseline classifiers on the flattened pixels of an image.

Dimensions: D = H·W·C values of an image.
"""

from __future__ import annotations

import keras

from cvpipe.models.blocks import Style, scale_channels


def linear(image: keras.KerasTensor, *, width: float, style: Style) -> dict[int, keras.KerasTensor]:
    """Return the pixels. Together with the head's single layer they make a linear classifier:
    softmax regression or an SVM, depending on the loss.

    Args:
        image: [B, H, W, C].
        width: unused.
        style: unused.

    Returns:
        {max(H, W): [B, 1, 1, D]}: one cell for the whole image.
    """
    return _one_place(image, keras.layers.Flatten(name="pixels")(image))


def two_layer(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Apply one hidden layer with ReLU. The head has the second layer of the network.

    Args:
        image: [B, H, W, C].
        width: multiplies the 100 hidden units.
        style: kernel initializers; the network has no norm.

    Returns:
        {max(H, W): [B, 1, 1, 100 × width]}: one cell for the whole image.
    """
    pixels = keras.layers.Flatten(name="pixels")(image)
    units, initializer = scale_channels(100, width), style.initializer.kernel()
    return _one_place(
        image,
        keras.layers.Dense(units, activation="relu", kernel_initializer=initializer, name="hidden")(
            pixels
        ),
    )


def _one_place(
    image: keras.KerasTensor, features: keras.KerasTensor
) -> dict[int, keras.KerasTensor]:
    rows, columns = image.shape[1:3]
    return {
        max(rows, columns): keras.layers.Reshape((1, 1, features.shape[-1]), name="place")(features)
    }
