"""Construction of Keras models from names in the catalog."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import keras

from cvpipe.config.cells import Cells
from cvpipe.config.model import Model
from cvpipe.config.prepare import Prepare
from cvpipe.errors import ConfigError
from cvpipe.models import applications
from cvpipe.models.backbones import AUXILIARY, BACKBONES, Backbone
from cvpipe.models.blocks import Style
from cvpipe.models.catalog import NETWORKS, Network, application_of
from cvpipe.models.cells import cell_network
from cvpipe.models.heads import classifier, last_layer
from cvpipe.models.initializers import Initializer
from cvpipe.models.normalize import Normalize
from cvpipe.models.norms import Norm

DEEPEST = 20_000
"""Recursion limit while a network is built: Keras recurses once per layer, and resnet1202 has 4,200
layers.
"""


def published(name: str) -> Network:
    """Return the catalog's entry for `name`.

    Raises:
        ConfigError: the catalog has no such network.
    """
    if name not in NETWORKS:
        raise ConfigError(f"there is no network {name!r}: choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def backbone(name: str, cells: Cells | None = None) -> Backbone:
    """Return the backbone function of the network `name`. `cells` is the genotype of the network
    "cells".

    Raises:
        ConfigError: the catalog has no such network.
    """
    if application := application_of(name):
        return applications.backbone(application)
    published(name)
    return BACKBONES[name] if cells is None else partial(cell_network, cells=cells)


def make_style(config: Model, synchronized: bool) -> Style:
    """Return the layer settings of a configuration. If `synchronized`, BatchNorm's statistics span
    all replicas.
    """
    garden = config.conventions == "model_garden"
    padding: dict[str, Any] = {"papers": None, "model_garden": "tensorflow"}
    norm = Norm(
        config.norm,
        epsilon=config.norm_epsilon,
        momentum=config.batch_norm_momentum,
        synchronized=synchronized,
        groups=config.norm_groups,
    )
    return Style(
        norm,
        Initializer(config.initializer, config.initializer_value),
        config.stochastic_depth,
        padding=padding.get(config.conventions, config.conventions),
        projected=garden,
        gate_activation="relu" if garden else None,
        activation=config.activation,
        drop_path=config.drop_path,
    )


def network_input(
    input_shape: tuple[int, int, int], normalize: Prepare | None
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return a network's input, [B, H, W, C], and the input of its backbone, which is normalized
    unless `normalize` is None.
    """
    image = keras.Input(input_shape, name="image")
    if normalize is None:
        return image, image
    return image, Normalize(normalize.normalize, input_shape, name="normalize")(image)


def backbone_features(
    backbone: Backbone,
    input_shape: tuple[int, int, int],
    *,
    width: float,
    style: Style,
    normalize: Prepare | None,
) -> tuple[keras.KerasTensor, dict[int, keras.KerasTensor]]:
    """Return a network's input (`network_input`), [B, H, W, C], and the backbone's feature maps
    (`Backbone`).
    """
    image, normalized = network_input(input_shape, normalize)
    try:
        return image, backbone(normalized, width=width, style=style)
    except ValueError as error:
        if "Computed output size would be" not in str(error):
            raise
        rows, columns = input_shape[:2]
        raise ConfigError(
            f"model.backbone: images of {rows}×{columns} pixels are too small for its layers"
            " without padding; set prepare.size to larger images"
        ) from None


def classification_network(
    name: str,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    width: float = 1.0,
    dropout: float = 0.0,
    drop_connect: float = 0.0,
    bias: float = 0.0,
    auxiliary: bool = False,
    cells: Cells | None = None,
    style: Style = Style(),
    normalize: Prepare | None = None,
) -> keras.Model:
    """Build the network `name` as a classifier, with initial weights.

    The same arguments give the same variable paths, independent of earlier networks in the process.

    Args:
        name: a key of the catalog, or "keras/" and one of `APPLICATIONS`.
        input_shape: height, width, channels of a prepared image.
        classes: number of logits.
        width: multiplies the channels of the backbone.
        dropout: share of features dropped before the last layer in training.
        drop_connect: share of the last layer's weights dropped in training.
        bias: initial biases of the last layer.
        auxiliary: True adds the network's auxiliary classifiers.
        cells: the genotype of the network "cells"; None for NASNet-A's.
        style: settings of the layers.
        normalize: method of the first layer, which normalizes images in [0, 1]; None for no such
            layer.

    Returns:
        A functional model called `name`: float [B, H, W, C] -> {"logits": float32 [B, classes]}.
            With `auxiliary`, it has outputs "auxiliary1", "auxiliary2", … of the same shape, too.

    Raises:
        ConfigError: the catalog has no such network, the image is too small for the network or for
            its norm, or the network has no auxiliary classifiers.
    """
    image, features = backbone_features(
        backbone(name, cells), input_shape, width=width, style=style, normalize=normalize
    )
    application = application_of(name)
    network = None if application else published(name)
    settings: dict[str, Any] = {"bias": bias, "style": style}
    logits = classifier(
        features,
        classes,
        dropout=dropout,
        drop_connect=drop_connect,
        network=network,
        width=width,
        **settings,
    )
    outputs = {"logits": logits}
    if auxiliary:
        maps = _auxiliary_maps(name, image, features)
        for index, x in enumerate(maps, 1):
            prefix = f"auxiliary{index}"
            x = AUXILIARY[name].layers(x, width=width, style=style, name=prefix)
            x = keras.layers.GlobalAveragePooling2D(name=f"{prefix}_mean")(x)
            outputs[prefix] = last_layer(classes, name=f"{prefix}_logits", **settings)(x)
    with _deep_recursion():
        return keras.Model(image, outputs, name=application or name)


def _auxiliary_maps(
    name: str, image: keras.KerasTensor, features: dict[int, keras.KerasTensor]
) -> list[keras.KerasTensor]:
    """Return the input maps of the auxiliary classifiers of the network `name`."""
    if name not in AUXILIARY:
        raise ConfigError(
            f"model.auxiliary: {name} has no auxiliary classifiers; leave model.auxiliary out or"
            f" choose one of {', '.join(AUXILIARY)}"
        )
    inner = keras.Model(image, features[max(features)])
    return [inner.get_layer(layer).output for layer in AUXILIARY[name].inputs]


@contextlib.contextmanager
def _deep_recursion() -> Iterator[None]:
    """Context that allows DEEPEST levels of recursion, and restores Python's limit at its end."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, DEEPEST))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
