"""Classifiers with weights from Python packages, usable without a training run."""

from __future__ import annotations

import keras

from cvpipe.config.prepare import Prepare
from cvpipe.errors import ConfigError
from cvpipe.models.build import classification_network, published
from cvpipe.models.weights.packages import PACKAGES, packaged_weights

CLASSIFIERS = tuple(name for name in PACKAGES if name.startswith("efficientnet"))
"""Networks whose packages include the weights of the last layer."""


def packaged_classifier(name: str) -> tuple[keras.Model, Prepare]:
    """Return a classifier of ImageNet's 1000 classes, and the preparation of its images.

    Args:
        name: one of CLASSIFIERS.

    Raises:
        ConfigError: no package has a classifier of that name, or the package isn't installed.
        DataError: the package's file isn't the published one.
    """
    if name not in CLASSIFIERS:
        raise ConfigError(
            f"{name}: no package has a classifier of that name; choose one of"
            f" {', '.join(CLASSIFIERS)}"
        )
    weights, _ = packaged_weights(name)
    shape = published(name).input_shape
    prepare = Prepare(size=shape[:2], normalize="weights")
    classes = len(weights["logits/bias"])
    network = classification_network(name, shape, classes, normalize=prepare)
    for variable in network.variables:
        variable.assign(weights[variable.path])
    return network, prepare
