"""From a name in the catalogue to a Keras model."""

from __future__ import annotations

import importlib
from typing import Protocol

import keras

from cvpipe.errors import ConfigError
from cvpipe.models.blocks import Norm
from cvpipe.models.catalogue import NETWORKS, Network
from cvpipe.models.heads import classifier


class Backbone(Protocol):
    """image [B, H, W, C] -> {stride: feature map}, strides increasing, for each the deepest map with that stride."""

    def __call__(self, image: keras.KerasTensor, *, width: float, norm: Norm) -> dict[int, keras.KerasTensor]: ...


def published(name: str) -> Network:
    """The catalogue's entry for `name`.

    Raises:
        ConfigError: there is none.
    """
    if name not in NETWORKS:
        raise ConfigError(f"there is no network {name!r}: choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def backbone(name: str) -> Backbone:
    """The backbone function of the network `name`.

    Raises:
        ConfigError: the catalogue has no such network.
    """
    file, function = published(name).backbone.split(":")
    return getattr(importlib.import_module(f"cvpipe.models.{file}"), function)


def classification_network(
    name: str, input_shape: tuple[int, int, int], classes: int, *, width: float = 1.0, dropout: float = 0.0, norm: Norm = Norm()
) -> keras.Model:
    """The network `name` as a classifier, with fresh weights.

    The same arguments give the same variable paths, whatever the process has built before.

    Args:
        name: a key of the catalogue.
        input_shape: height, width, channels of a prepared image.
        classes: number of logits.
        width: multiplies the channels of the backbone.
        dropout: share of features dropped before the last layer in training.
        norm: settings of every BatchNorm.

    Returns:
        A functional model called `name`: float [B, H, W, C] -> {"logits": float32 [B, classes]}.

    Raises:
        ConfigError: the catalogue has no such network, or the image is too small for it.
    """
    image = keras.Input(input_shape, name="image")
    features = backbone(name)(image, width=width, norm=norm)
    logits = classifier(features, classes, dropout=dropout, hidden=published(name).hidden)
    return keras.Model(image, {"logits": logits}, name=name)
