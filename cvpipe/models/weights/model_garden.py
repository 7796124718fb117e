"""Weights from checkpoints of TensorFlow Model Garden, by the paths of cvpipe's variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cvpipe.config.model import Model
from cvpipe.errors import ConfigError, suggest
from cvpipe.models.catalog import MODEL_GARDEN_ACTIVATIONS
from cvpipe.models.weights.checkpoint_file import files_of, read_checkpoint
from cvpipe.models.weights.convert import convert
from cvpipe.models.weights.model_garden_names import GARDEN_NETWORKS, model_garden_table
from cvpipe.models.weights.provenance import Provenance, of_files
from cvpipe.yaml_files import read_yaml

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of red, green and blue in 0…1 in Model Garden."""
EPSILON = 0.001
"""Default of `norm_epsilon` in Model Garden."""
PARAMS = "params.yaml"
"""File with the configuration of a training's experiment."""
DEFAULT_ACTIVATIONS = {"resnet": "relu", "efficientnet": "silu"}
"""Default activations of the networks whose activation can be configured in Model Garden, by
prefixes of the networks' names.
"""


def garden_weights(prefix: Path, model: Model) -> tuple[dict[str, np.ndarray], Provenance]:
    """Return a checkpoint's weights, including those of `models.normalize.Normalize`, and their
    origin.

    Args:
        prefix: the checkpoint's path without file extensions.
        model: the pipeline's network.

    Raises:
        ConfigError: the pipeline's network isn't the same as Model Garden's.
        DataError: the checkpoint is damaged or belongs to another network.
    """
    table = model_garden_table(model.backbone)
    if table is None:
        near = suggest(model.backbone, GARDEN_NETWORKS)
        raise ConfigError(
            f"model.weights: {prefix}: a checkpoint of Model Garden, which doesn't have"
            f" {model.backbone}, or has a different network with this name; {near}"
        )
    _check_network(prefix, model)
    weights = convert(read_checkpoint(prefix), [table], model.backbone, str(prefix))
    normalization: dict[str, np.ndarray] = {
        "normalize/mean": np.array(MEAN, np.float32),
        "normalize/scale": 1 / np.array(STD, np.float32),
    }
    return {**weights, **normalization}, of_files(files_of(prefix), str(prefix))


def _check_network(prefix: Path, model: Model) -> None:
    settings = _norm_activation(prefix)
    epsilon = settings.get("norm_epsilon")
    if model.conventions != "model_garden":
        raise ConfigError(
            f"model.weights: {prefix}: a checkpoint of Model Garden, whose networks differ in"
            " padding and other details; set model.conventions to model_garden and"
            f" model.norm_epsilon to {epsilon or EPSILON}"
        )
    if isinstance(epsilon, float) and abs(epsilon - model.norm_epsilon) > 1e-3 * epsilon:
        raise ConfigError(
            f"model.norm_epsilon: {model.norm_epsilon:g} differs from {prefix}, whose {PARAMS} has"
            f" {epsilon:g}; set model.norm_epsilon to {epsilon:g}"
        )
    default = next(
        (DEFAULT_ACTIVATIONS[n] for n in DEFAULT_ACTIVATIONS if model.backbone.startswith(n)), None
    )
    theirs = MODEL_GARDEN_ACTIVATIONS.get(str(settings.get("activation")))
    ours = model.activation or default
    if default and theirs and theirs != ours:
        raise ConfigError(
            f"model.activation: {ours} differs from {prefix}, whose {PARAMS} has"
            f" {settings['activation']}; set model.activation to {theirs}"
        )


def _norm_activation(prefix: Path) -> dict[str, Any]:
    """Return the training's `task.model.norm_activation`; empty if its configuration is missing."""
    # The best checkpoint is in a subfolder.
    for folder in (prefix.parent, prefix.parent.parent):
        file = folder / PARAMS
        if file.is_file():
            values, _ = read_yaml(file.read_text(encoding="utf-8"), str(file))
            for key in ("task", "model", "norm_activation"):
                values = values.get(key) if isinstance(values, dict) else None
            return values if isinstance(values, dict) else {}
    return {}
