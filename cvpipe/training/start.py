"""Initialization of a fresh model: normalization statistics and given weights."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from cvpipe.config import Config
from cvpipe.data.samples import plain_images
from cvpipe.data.sources import Source
from cvpipe.data.statistics import evenly_spaced, normalization
from cvpipe.errors import ConfigError, DataError
from cvpipe.models.freeze import ADDED
from cvpipe.models.normalize import Normalize
from cvpipe.models.weights.provenance import Provenance
from cvpipe.tasks.task import Task
from cvpipe.training.given_weights import SAME_NETWORK, given_weights, tells_classes

UNPUBLISHED = ("fc6", "fc7", "stage4_length")
"""Layers that SSD and FCN add to VGG16's convolutions. Files with VGG16's weights may not have
them.
"""


def initialize(
    networks: Mapping[str, keras.Model], source: Source, config: Config, task: Task
) -> Provenance | None:
    """Prepare new networks for their first step: set normalization statistics and given weights.

    Args:
        networks: the new networks by name.
        source: the training split.
        config: the pipeline.
        task: the pipeline's task.

    Returns:
        The origin of the initial weights; None for random weights.

    Raises:
        ConfigError: `model.weights` can't be loaded.
        DataError: the weights belong to another network. The error names a layer that differs.
    """
    trained = {name: own for name, own in networks.items() if name not in task.frozen}
    for network in trained.values():
        fit_normalization(network, source, config)
    if config.model.weights is None:
        return None
    if len(trained) > 1:
        raise ConfigError(
            f"model.weights: task: {config.task} has several networks, which can't start from"
            " given weights; remove the key"
        )
    weights = given_weights(config, source.facts)
    if config.prepare.normalize == "weights" and "normalize/mean" not in weights.by_path:
        raise ConfigError(
            f"prepare.normalize: weights: {config.model.weights} doesn't contain the mean and"
            " standard deviation of its training images; set prepare.mean and prepare.std instead"
            " (for torchvision's weights [0.485, 0.456, 0.406] and [0.229, 0.224, 0.225])"
        )
    for network in trained.values():
        take_over(network, weights.by_path, config.model.weights)
    return weights.provenance


def fit_normalization(model: keras.Model, source: Source, config: Config) -> None:
    """If the model has a normalization layer, compute its statistics from the training images."""
    first = [layer for layer in model.layers if isinstance(layer, Normalize)]
    if first and config.prepare.normalize != "weights":
        images = plain_images(source, config.prepare, evenly_spaced(len(source)))
        first[0].set_statistics(normalization(images, config.prepare))


def take_over(model: keras.Model, weights: Mapping[str, np.ndarray], origin: str) -> None:
    """Assign weights to the model by the paths of its variables.

    Some layers may be missing in the weights and then keep their initial values: layers that a task
    adds to the backbone, and the classification layer, which may also have another shape.

    Raises:
        DataError: another variable is missing or has another shape.
    """
    for variable in model.variables:
        layer, name = variable.path.split("/")[0], variable.path.split("/")[-1]
        given = weights.get(variable.path)
        if given is not None and given.shape == tuple(variable.shape):
            variable.assign(given)
        elif given is not None and not tells_classes(variable.path):
            raise DataError(
                f"model.weights: {origin}: layer {layer}: its {name} has the shape"
                f" {list(given.shape)}, but the pipeline's {name} has {list(variable.shape)};"
                f" {SAME_NETWORK}"
            )
        elif not (
            layer.startswith(("normalize", *ADDED))
            or layer in UNPUBLISHED
            or tells_classes(variable.path)
            or name == "seed_generator_state"
        ):
            raise DataError(
                f"model.weights: {origin}: has no weights for layer {layer} ({variable.path});"
                f" {SAME_NETWORK}"
            )
