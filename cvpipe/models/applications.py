"""Networks of Keras Applications as backbones with published weights, such as `keras/MobileNetV2`.

They keep Keras's norms and initializers. Their input is pixels in [0, 1], and they include the
preprocessing that their weights need.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import keras

from cvpipe.errors import ConfigError
from cvpipe.models.blocks import Style
from cvpipe.models.catalog import APPLICATIONS
from cvpipe.models.pooling import with_exact_pooling


def application(name: str, image: keras.KerasTensor | None = None, **options: Any) -> keras.Model:
    """Return the network without its head, applied to `image`, float [B, H, W, 3] in [0, 1].
    Without `image`, the network has an input of its own.

    Raises:
        ConfigError: the images are too small or not in color.
    """
    module = _module(name)
    if image is not None:
        if image.shape[-1] != 3:
            raise ConfigError(f"keras/{name} takes color images only; set prepare.channels to 3")
        options["input_tensor"] = module.preprocess_input(image * 255.0)
    try:
        network = getattr(module, name)(include_top=False, weights=None, **options)
    except ValueError as error:
        raise ConfigError(f"keras/{name}: {error}; set prepare.size to larger images") from None
    return with_exact_pooling(network)


def published_weights(name: str, size: tuple[int, int]) -> keras.Model:
    """Return the network with Keras's weights trained on ImageNet, downloaded once to ~/.keras.

    Raises:
        ConfigError: the weights can't be downloaded.
    """
    try:
        return getattr(_module(name), name)(
            include_top=False, weights="imagenet", input_shape=(*size, 3)
        )
    except Exception as error:  # Keras raises a plain Exception.
        raise ConfigError(
            f"model.weights: the imagenet weights can't be downloaded ({error}); fetch the file on"
            " a machine with a network and put it in ~/.keras/models, or give its path instead"
        ) from None


def backbone(name: str) -> Any:
    """Return the backbone function (`Backbone`) of an application, such as "MobileNetV2"."""
    return functools.partial(_features, name)


def _features(
    name: str, image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    if width != 1:
        raise ConfigError(f"model.width: keras/{name} comes in one width; leave model.width out")
    features = {}
    for layer in application(name, image).layers:
        output = layer.output
        # Skip outputs of padding layers, which are a few pixels larger than their stride implies.
        if (
            isinstance(output, keras.KerasTensor)
            and len(output.shape) == 4
            and not isinstance(layer, keras.layers.ZeroPadding2D)
        ):
            # Rounding is needed because networks without padding lose a pixel or two at each
            # stride.
            features[2 ** round(math.log2(image.shape[1] / output.shape[1]))] = output
    return features


def _module(name: str) -> Any:
    return getattr(keras.applications, APPLICATIONS[name])
