"""Anomaly detectors from a configuration: a backbone, and a memory of its features.

Dimensions: B images, H, W, C of a prepared image, h × w patches.
"""

from __future__ import annotations

import keras
import numpy as np

from cvpipe.config import Anomaly
from cvpipe.config.anomaly import PatchCore
from cvpipe.errors import ConfigError
from cvpipe.models.blocks import Style
from cvpipe.models.build import backbone, backbone_features
from cvpipe.models.patch_memory import PatchBank, PatchGaussians, PatchMemory

MEMORY = "head_memory"
"""Name of the layer that stores normal patches."""


def anomaly_network(config: Anomaly, style: Style) -> keras.Model:
    """Build the network: float32 [B, H, W, C] to raw outputs by name, float32.

    The outputs are those of `PatchMemory`, and PatchMemory's input, "features" [B, h, w, …].

    Raises:
        ConfigError: the backbone lacks one of `strides`, or the input size isn't a multiple of all
            strides.
    """
    model = config.model
    image, maps = backbone_features(
        backbone(model.backbone, model.cells),
        (*config.prepare.size, config.prepare.channels),
        width=model.width,
        style=style,
        normalize=None if config.prepare.normalize == "given" else config.prepare,
    )
    features = _patches(maps, config)
    outputs = {"features": features, **_memory(config, features.shape[-1])(features)}
    return keras.Model(image, outputs, name=f"anomaly_{model.head.kind}")


def _patches(maps: dict[int, keras.KerasTensor], config: Anomaly) -> keras.KerasTensor:
    """Return the features of each patch: the mean of 3×3 cells of each map (Roth et al. 2022,
    equation 2), concatenated at the resolution of the finest map.
    """
    strides = config.model.head.strides
    for stride in strides:
        if stride not in maps:
            raise ConfigError(
                f"model.head.strides: {config.model.backbone} has no feature map of stride"
                f" {stride}; choose from {', '.join(map(str, sorted(maps)))}"
            )
    coarsest = max(strides)
    if any(side % coarsest for side in config.prepare.size):
        raise ConfigError(
            "prepare.size: height and width must be multiples of the largest of model.head.strides,"
            f" {coarsest}; choose another size"
        )
    parts = []
    for stride in strides:
        x = keras.layers.AveragePooling2D(
            3, 1, padding="same", dtype="float32", name=f"head_mean{stride}"
        )(maps[stride])
        if stride > min(strides):
            x = keras.layers.UpSampling2D(
                stride // min(strides),
                interpolation="bilinear",
                dtype="float32",
                name=f"head_up{stride}",
            )(x)
        parts.append(x)
    if len(parts) == 1:
        return parts[0]
    return keras.layers.Concatenate(dtype="float32", name="head_features")(parts)


def _memory(config: Anomaly, channels: int) -> PatchMemory:
    head = config.model.head
    if isinstance(head, PatchCore):
        return PatchBank(head.bank, head.neighbors, name=MEMORY)
    # Randomly chosen channels work as well as principal components (Defard et al. 2021, section
    # III.C).
    order = np.random.default_rng(config.seed).permutation(channels)
    kept = sorted(order[: head.channels].tolist())
    return PatchGaussians(kept, head.regularization, name=MEMORY)
