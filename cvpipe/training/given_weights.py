"""Reading of the weights that `model.weights` names: a run, a file, a checkpoint or a package."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

import cvpipe.models.layers  # noqa: F401  A .keras file names the layers that this registers.
from cvpipe.config import Config
from cvpipe.data.facts import Facts
from cvpipe.errors import ConfigError, DataError
from cvpipe.models.applications import application, published_weights
from cvpipe.models.catalog import application_of
from cvpipe.models.weights.checkpoint_file import find_checkpoint
from cvpipe.models.weights.convert import convert
from cvpipe.models.weights.hdf5_file import read_hdf5_file
from cvpipe.models.weights.model_garden import garden_weights
from cvpipe.models.weights.names import DIFFERENT, tables_of
from cvpipe.models.weights.packages import packaged_weights
from cvpipe.models.weights.provenance import Provenance, of_file
from cvpipe.models.weights.safetensors_file import read_safetensors_file
from cvpipe.models.weights.torch_file import read_torch_file
from cvpipe.tasks import load_task
from cvpipe.training.build import load_networks
from cvpipe.training.run import Run
from cvpipe.user_paths import find_path

log = logging.getLogger(__name__)

SAME_NETWORK = "set the network, width and channels with which the weights were trained"
OF_OTHERS = {
    ".pth": read_torch_file,
    ".pt": read_torch_file,
    ".safetensors": read_safetensors_file,
    ".h5": read_hdf5_file,
}
"""Readers for files of other libraries, by extension."""


class GivenWeights(NamedTuple):
    """Weights to start from."""

    by_path: Mapping[str, np.ndarray]
    """Weights by path of cvpipe's variables. If the last layer was trained on other classes, its
    weights are missing.
    """
    provenance: Provenance


def given_weights(config: Config, facts: Facts) -> GivenWeights:
    """Read the run, checkpoint, file or package that `model.weights` names.

    Raises:
        ConfigError: `model.weights` names nothing that can be loaded.
        DataError: a file is damaged, or belongs to another network.
    """
    origin = config.model.weights or ""
    network = application_of(config.model.backbone)
    if origin == "imagenet":
        if network:
            weights = _by_path(published_weights(network, config.prepare.size))
            source = f"Keras Applications' {network}, ImageNet; downloaded by Keras"
            return GivenWeights(weights, Provenance(source, None, None))
        by_path, provenance = packaged_weights(config.model.backbone, config.model.conventions)
        return GivenWeights(_for_classes(by_path, facts), provenance)
    path = find_path(origin)
    if (path / "config.json").is_file():
        return _of_run(Run(path), config, facts)
    checkpoint = find_checkpoint(path) or find_checkpoint(find_path(f"{origin}.index"))
    if checkpoint is not None:
        by_path, provenance = garden_weights(checkpoint, config.model)
        return GivenWeights(_for_classes(by_path, facts), provenance)
    if not path.is_file():
        where = "copy the weights to this machine" if "://" in origin else "give an existing path"
        raise ConfigError(
            f"model.weights: {origin}: not a run, a checkpoint or a file; {where}, or give imagenet"
            " for networks with published weights"
        )
    return GivenWeights(_of_file(path, origin, network, config, facts), of_file(path))


def tells_classes(path: str) -> bool:
    """Return True for a variable of a last layer. Last layers are loaded only if the classes are
    the same.
    """
    return path.split("/")[0].endswith("logits")


def _of_file(
    path: Path, origin: str, network: str | None, config: Config, facts: Facts
) -> Mapping[str, np.ndarray]:
    if origin.endswith(".keras"):
        return _of_keras_file(path)
    if origin.endswith(".weights.h5"):
        if network:
            size = (*config.prepare.size, 3)
            published = application(network, input_shape=size)
            _refuse(_load(published, path), path)
            return _by_path(published)
        return _of_weights_file(path, config, facts)
    if path.suffix not in OF_OTHERS:
        endings = ", ".join([*OF_OTHERS, ".weights.h5"])
        raise ConfigError(
            f"model.weights: {origin}: names of weight files end in {endings} or .keras; rename the"
            " file, or give another"
        )
    tables = tables_of(config.model.backbone)
    if not tables:
        name = config.model.backbone
        why = f"no other library has {name}"
        if name in DIFFERENT:
            why = (
                f"{name} differs from the network of that name in other libraries:"
                f" {DIFFERENT[name]}"
            )
        raise ConfigError(
            f"model.weights: {origin}: {why}; give a run of this network, or weights of this"
            " network saved by Keras"
        )
    model, given = config.model, OF_OTHERS[path.suffix](path)
    weights = convert(given, tables, model.backbone, origin, model.conventions, model.norm_epsilon)
    return _for_classes(weights, facts)


def _of_weights_file(path: Path, config: Config, facts: Facts) -> dict[str, np.ndarray]:
    """Read weights that Keras saved of the pipeline's network, perhaps with other classes.

    The file doesn't name classes, so only numbers are compared. If only the outputs of the classes
    have another shape, their weights are left out.
    """
    [built] = load_task(config, facts).build(False).values()
    misfit = _load(built, path)
    if misfit is None:
        return _by_path(built)
    units = len(facts.class_names)
    is_same_but_for_units = misfit.own == (*misfit.given[:-1], units)
    if tells_classes(misfit.layer) and is_same_but_for_units:
        others = facts._replace(class_names=tuple(map(str, range(misfit.given[-1]))))
        [built] = load_task(config, others).build(False).values()
        misfit = _load(built, path)
    _refuse(misfit, path)
    return _by_path(built, same_classes=False)


def _for_classes(weights: Mapping[str, np.ndarray], facts: Facts) -> dict[str, np.ndarray]:
    """Remove the last layer's weights if the layer has another number of classes than the data. The
    file doesn't name classes, so only numbers are compared.
    """
    outputs = len(weights["logits/bias"]) if "logits/bias" in weights else 0
    same = outputs == len(facts.class_names)
    return {path: own for path, own in weights.items() if same or not tells_classes(path)}


def _of_run(run: Run, config: Config, facts: Facts) -> GivenWeights:
    if run.config.prepare != config.prepare:
        log.warning(
            "model.weights: %s was trained with another image preparation (its 'prepare' section"
            " differs)",
            run.folder,
        )
    checkpoint = run.checkpoint(run.config.export.checkpoint)
    networks = load_networks(run, checkpoint)
    if len(networks) > 1:
        raise DataError(
            f"model.weights: {run.folder}: this run has several networks; give a run with one"
            " network"
        )
    [network] = networks.values()
    provenance, before = of_file(checkpoint), run.weights
    if before is not None:
        # If the run itself started from published weights, their license applies to its weights.
        source = f"{provenance.source}, trained from {before.source} ({before.sha256})"
        provenance = provenance._replace(source=source, license=before.license)
    return GivenWeights(_by_path(network, run.facts == facts), provenance)


def _of_keras_file(path: Path) -> dict[str, np.ndarray]:
    # A .keras file doesn't contain the states of dropout's seed generators; Keras draws new ones.
    return {
        name: value
        for name, value in _by_path(_read_model(path)).items()
        if not name.endswith("seed_generator_state")
    }


def _by_path(model: keras.Model, same_classes: bool = True) -> dict[str, np.ndarray]:
    return {v.path: v.numpy() for v in model.variables if same_classes or not tells_classes(v.path)}


def _read_model(path: Path) -> keras.Model:
    try:
        return keras.saving.load_model(path, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise DataError(
            f"model.weights: {path}: can't be loaded ({str(error)[:300]}); give a file that cvpipe"
            " export --keras wrote, a whole model of Keras's own layers, or a .weights.h5 file"
        ) from None


class _Misfit(NamedTuple):
    """The first variable whose shape in a file isn't that of the network."""

    layer: str
    own: tuple[int, ...]
    given: tuple[int, ...]


def _load(model: keras.Model, path: Path) -> _Misfit | None:
    """Load weights saved by Keras; return the misfit if a shape differs.

    Raises:
        DataError: the file can't be read, or has other variables.
    """
    try:
        model.load_weights(path)
    except (OSError, KeyError) as error:
        raise DataError(
            f"model.weights: {path}: not weights saved by Keras ({error}); give another file"
        ) from None
    except ValueError as error:
        said = str(error)
        layer = re.search(r"object <\w+ name=(\w+)", said)
        shapes = re.findall(r"shape=\(([^)]*)\)", said)
        if layer is None or len(shapes) < 2:
            raise DataError(f"model.weights: {path}: {said[:300]}; {SAME_NETWORK}") from None
        own, given = (tuple(map(int, re.findall(r"\d+", shape))) for shape in shapes[:2])
        return _Misfit(layer[1], own, given)
    return None


def _refuse(misfit: _Misfit | None, path: Path) -> None:
    """Raise a DataError if there is a misfit."""
    if misfit:
        raise DataError(
            f"model.weights: {path}: layer {misfit.layer}: the file's shape is"
            f" {list(misfit.given)}, but the pipeline's is {list(misfit.own)}; {SAME_NETWORK}"
        )
