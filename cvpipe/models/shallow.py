"""Baseline classifiers that treat an image's pixels as a flat list of numbers.

Dimensions: D = H·W·C numbers of an image.
"""

from __future__ import annotations

import keras

from cvpipe.models.blocks import Style, scale_channels


def linear(image: keras.KerasTensor, *, width: float, style: Style) -> dict[int, keras.KerasTensor]:
    """The pixels themselves: with the head's one layer this is a linear classifier, softmax or SVM
    by its loss.

    Args:
        image: [B, H, W, C].
        width: unused, there is no layer.
        style: unused.

    Returns:
        {max(H, W): [B, 1, 1, D]}: one place for the whole image.
    """
    return _one_place(image, keras.layers.Flatten(name="pixels")(image))


def two_layer(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """One hidden ReLU layer; the head's is the second.

    Args:
        image: [B, H, W, C].
        width: multiplies its 100 units.
        style: how kernels start out; the network has no norm.

    Returns:
        {max(H, W): [B, 1, 1, 100 × width]}: one place for the whole image.
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
