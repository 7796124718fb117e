"""Freezing of layers for training."""

from __future__ import annotations

import keras

from cvpipe.config.model import Model
from cvpipe.errors import ConfigError

ADDED = ("extra", "pyramid", "neck", "head", "decoder", "auxiliary")
"""Beginnings of the names of layers that a task adds to a backbone."""
HEAD = ("pool", "hidden", "dropout", "logits", *ADDED)
"""Beginnings of the names of a head's layers; the first four are those of a classifier."""


def freeze(model: keras.Model, config: Model) -> None:
    """Makes layers untrainable: all but the head's, or the stem's and the first stages'; a frozen
    BatchNorm keeps its statistics too.

    Raises:
        ConfigError: fewer stages than asked for.
    """
    if config.freeze == "backbone":
        frozen = [layer for layer in model.layers if not layer.name.startswith(HEAD)]
    elif config.freeze == "stages":
        known = sorted(
            {layer.name.split("_")[0] for layer in model.layers if layer.name.startswith("stage")}
        )
        if len(known) < config.freeze_stages:
            stages = f"has the stages {', '.join(known)}" if known else "has no stages"
            asked = f"model.freeze_stages: {config.freeze_stages}"
            raise ConfigError(
                f"{asked}, but {config.backbone} {stages}; take fewer, or freeze: backbone"
            )
        names = ("stem", *(f"stage{number + 1}_" for number in range(config.freeze_stages)))
        frozen = [layer for layer in model.layers if layer.name.startswith(names)]
    else:
        return
    for layer in frozen:
        layer.trainable = False
