"""Initialization of a fresh model: normalization statistics and pretrained weights."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import h5py
import keras
import numpy as np

import cvpipe.models.layers  # noqa: F401  A .keras file names the layers that this registers.
from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.data.sources import Source
from cvpipe.data.statistics import evenly_spaced, normalization
from cvpipe.data.stream import plain_images
from cvpipe.errors import ConfigError, DataError
from cvpipe.models.applications import application, published_weights
from cvpipe.models.catalog import application_of
from cvpipe.models.freeze import ADDED
from cvpipe.models.normalize import Normalize
from cvpipe.tasks import load_task
from cvpipe.tasks.task import Task
from cvpipe.training.build import load_networks
from cvpipe.training.run import Run
from cvpipe.user_paths import find_path

log = logging.getLogger(__name__)

SAME_NETWORK = "take the network, width and channels that the weights were trained with"


def initialize(
    networks: Mapping[str, keras.Model], source: Source, config: Config, task: Task
) -> None:
    """Initialize newly built networks: normalization statistics and pretrained weights.

    Args:
        source: the training split.

    Raises:
        ConfigError: `model.weights` can't be loaded.
        DataError: the weights belong to another network. The error names the layer.
    """
    trained = {name: own for name, own in networks.items() if name not in task.frozen}
    for network in trained.values():
        fit_normalization(network, source, config)
    if config.model.weights is not None:
        if len(trained) > 1:
            raise ConfigError(
                f"model.weights: task: {config.task} has several networks, which can't start from"
                " given weights; leave it out"
            )
        for network in trained.values():
            weights = _read_weights(config, source.facts)
            take_over(network, weights, config.model.weights)


def fit_normalization(model: keras.Model, source: Source, config: Config) -> None:
    """Compute the statistics of the model's normalization layer, if it has one, from the training
    images.
    """
    first = [layer for layer in model.layers if isinstance(layer, Normalize)]
    if first:
        images = plain_images(source, config.prepare, evenly_spaced(len(source)))
        first[0].set_statistics(normalization(images, config.prepare))


def take_over(model: keras.Model, weights: dict[str, np.ndarray], origin: str) -> None:
    """Assign weights to the model by their paths.

    The classification layer may be missing or have another shape, and layers that a task adds to
    the backbone may be missing. These keep their initial values.

    Raises:
        DataError: any other variable is missing or has another shape.
    """
    for variable in model.variables:
        layer, name = variable.path.split("/")[0], variable.path.split("/")[-1]
        given = weights.get(variable.path)
        if given is not None and given.shape == tuple(variable.shape):
            variable.assign(given)
        elif given is not None and not _depends_on_classes(variable.path):
            raise DataError(
                f"model.weights: {origin}: layer {layer}: its {name} has the shape"
                f" {list(given.shape)}, the pipeline's {list(variable.shape)}; {SAME_NETWORK}"
            )
        elif not (
            layer.startswith(("normalize", *ADDED))
            or _depends_on_classes(variable.path)
            or name == "seed_generator_state"
        ):
            raise DataError(
                f"model.weights: {origin}: has nothing for layer {layer} ({variable.path});"
                f" {SAME_NETWORK}"
            )


def _read_weights(config: Config, facts: Facts) -> dict[str, np.ndarray]:
    """Read weights by their paths. The classification layer is left out if its classes differ."""
    origin = config.model.weights or ""
    network = application_of(config.model.backbone)
    if origin == "imagenet" and network:
        return _by_path(published_weights(network, config.prepare.size))
    path = find_path(origin)
    if (path / "config.json").is_file():
        return _of_run(Run(path), config, facts)
    if not path.is_file():
        also = ", or imagenet for keras/… backbones" if not network else ""
        raise ConfigError(
            f"model.weights: {origin}: no run, and no .weights.h5 or .keras file there; give one of"
            f" these{also}"
        )
    if origin.endswith(".keras"):
        return _of_keras_file(path)
    if not origin.endswith(".weights.h5"):
        raise ConfigError(
            f"model.weights: {origin}: neither .weights.h5 nor .keras; give a file that Keras saved"
            " under such a name"
        )
    if network:
        return _by_path(_loaded(application(network, input_shape=(*config.prepare.size, 3)), path))
    # The file has no class names, only their number: the units of its last layer.
    outputs = _units_of_last_layer(path)
    saved = load_task(config, facts._replace(class_names=tuple(map(str, range(outputs)))))
    [network] = saved.build(False).values()
    return _by_path(_loaded(network, path), outputs == len(facts.class_names))


def _of_run(run: Run, config: Config, facts: Facts) -> dict[str, np.ndarray]:
    if run.config.prepare != config.prepare:
        log.warning(
            "model.weights: %s was trained with another image preparation (its 'prepare' section"
            " differs)",
            run.folder,
        )
    networks = load_networks(run, run.checkpoint(run.config.export.checkpoint))
    if len(networks) > 1:
        raise DataError(
            f"model.weights: {run.folder}: a run of several networks; give a run of one"
        )
    [network] = networks.values()
    return _by_path(network, run.facts == facts)


def _of_keras_file(path: Path) -> dict[str, np.ndarray]:
    # A file contains no dropout seeds; the loaded model has new random ones.
    return {
        name: value
        for name, value in _by_path(_read_model(path)).items()
        if not name.endswith("seed_generator_state")
    }


def _by_path(model: keras.Model, same_classes: bool = True) -> dict[str, np.ndarray]:
    return {
        v.path: v.numpy()
        for v in model.variables
        if same_classes or not _depends_on_classes(v.path)
    }


def _depends_on_classes(path: str) -> bool:
    """Return True if the variable belongs to a classification layer, which depends on the
    classes.
    """
    return path.split("/")[0].endswith("logits")


def _read_model(path: Path) -> keras.Model:
    try:
        return keras.saving.load_model(path, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise DataError(
            f"model.weights: {path}: can't be loaded ({str(error)[:300]}); give a file of cvpipe"
            " export --keras, or a model of Keras's own layers, saved whole, or its .weights.h5"
        ) from None


def _loaded(model: keras.Model, path: Path) -> keras.Model:
    try:
        model.load_weights(path)
    except (ValueError, OSError) as error:
        said = str(error)
        layer, shapes = (
            re.search(r"object <\w+ name=(\w+)", said),
            re.findall(r"shape=\(([^)]*)\)", said),
        )
        if layer is None or len(shapes) < 2:
            raise DataError(f"model.weights: {path}: {said[:300]}; {SAME_NETWORK}") from None
        raise DataError(
            f"model.weights: {path}: layer {layer[1]}: the file's shape is [{shapes[1]}], the"
            f" pipeline's [{shapes[0]}]; {SAME_NETWORK}"
        ) from None
    return model


def _units_of_last_layer(path: Path) -> int:
    """Return the number of units of the last dense layer in a .weights.h5 file."""
    kernels: dict[int, int] = {}
    try:
        with h5py.File(path) as file:
            for name in file.get("layers", {}):
                number = re.fullmatch(r"dense(?:_(\d+))?", name)
                if number:
                    kernels[int(number[1] or 0)] = file["layers"][name]["vars"]["0"].shape[-1]
    except (OSError, KeyError) as error:
        raise DataError(
            f"model.weights: {path}: no weights that Keras saved ({error}); give another file"
        ) from None
    if not kernels:
        raise DataError(
            f"model.weights: {path}: has no dense layer at its end; give the weights of a whole"
            " classifier"
        )
    return kernels[max(kernels)]
