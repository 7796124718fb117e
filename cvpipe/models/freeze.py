"""Freezing of layers for training."""

from __future__ import annotations

import keras

from cvpipe.config.model import Model
from cvpipe.errors import ConfigError

ADDED = ("extra", "pyramid", "neck", "head", "decoder", "auxiliary")
"""Name prefixes of layers that a task adds to a backbone."""
HEAD = ("pool", "hidden", "dropout", "logits", *ADDED)
"""Name prefixes of a head's layers; the first four belong to a classifier."""


def is_head(path: str) -> bool:
    """Return True if a variable's path belongs to a head."""
    return path.startswith(HEAD)


def freeze(model: keras.Model, config: Model, thawed: int = 0) -> list[list[keras.layers.Layer]]:
    """Freeze the backbone, or its stem and first stages, as `model.freeze` says. A frozen BatchNorm
    also keeps its moving statistics.

    Args:
        thawed: number of groups, from the first in the returned order, that are unfrozen already.

    Returns:
        The frozen layers in the order of unfreezing: one group, or with `unfreeze: gradually` one
        per stage, the last stage first.

    Raises:
        ConfigError: the backbone has fewer stages than requested.
    """
    groups = _groups(model, config)
    norms = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and not is_head(layer.name)
    ]
    for number, group in enumerate(groups):
        for layer in group:
            layer.trainable = number < thawed
    for norm in norms if config.freeze_norms else ():
        norm.trainable = False
    return groups


def _groups(model: keras.Model, config: Model) -> list[list[keras.layers.Layer]]:
    """Return the layers that `freeze` freezes, in groups."""
    known = sorted(
        {layer.name.split("_")[0] for layer in model.layers if layer.name.startswith("stage")}
    )
    stages = f"has the stages {', '.join(known)}" if known else "has no stages"
    if config.freeze == "none":
        return []
    if config.freeze == "stages":
        if len(known) < config.freeze_stages:
            raise ConfigError(
                f"model.freeze_stages: {config.freeze_stages}, but {config.backbone} {stages}; take"
                " fewer, or freeze: backbone"
            )
        names = ("stem", *(f"stage{number + 1}_" for number in range(config.freeze_stages)))
        frozen = [layer for layer in model.layers if layer.name.startswith(names)]
    else:
        frozen = [layer for layer in model.layers if not is_head(layer.name)]
    # The normalization of images isn't trainable.
    frozen = [layer for layer in frozen if layer.variables and layer.name != "normalize"]
    if config.unfreeze == "together":
        return [frozen]
    if not known:
        raise ConfigError(
            f"model.unfreeze: gradually, but {config.backbone} {stages}; set unfreeze: together"
        )
    by_stage: dict[str, list[keras.layers.Layer]] = {}
    for layer in frozen:
        by_stage.setdefault(layer.name.split("_")[0], []).append(layer)
    return list(by_stage.values())[::-1]
