"""The first layer of a network whose images are normalized by what the training set looks like.

It is a layer, not a part of the input pipeline, so that what was computed once travels with the
weights: into checkpoints, evaluation and the artefact. Dimensions: B images, H, W, C of the
network's input, D = H·W·C.
"""

from __future__ import annotations

from math import prod
from typing import Any

import keras
import numpy as np

from cvpipe.config.prepare import Prepare


class Normalize(keras.layers.Layer):
    """float [B, H, W, C] in [0, 1] to float32 [B, H, W, C]: minus a mean, then times a scale or a
    matrix; see `Prepare.normalize`.

    Nothing in it is trained; `set_statistics` fills it.
    """

    def __init__(self, prepare: Prepare, name: str) -> None:
        # Half precision would cost the small components their meaning.
        super().__init__(name=name, dtype="float32", trainable=False)
        shape = (*prepare.size, prepare.channels)
        whitens = prepare.normalize in ("pca", "zca")
        self.mean = self._constant(
            "mean", shape[-1:] if prepare.normalize == "channels" else shape, "zeros"
        )
        self.scale = (
            self._constant("scale", shape[-1:], "ones") if prepare.normalize == "channels" else None
        )
        self.matrix = (
            self._constant("matrix", (prod(shape), prod(shape)), "identity") if whitens else None
        )

    def call(self, image: Any) -> Any:
        """Normalize images, float [B, H, W, C]."""
        x = image - self.mean
        if self.scale is not None:
            x = x * self.scale
        if self.matrix is not None:
            x = keras.ops.reshape(
                keras.ops.matmul(keras.ops.reshape(x, (-1, self.matrix.shape[0])), self.matrix),
                (-1, *self.mean.shape),
            )
        return x

    def set_statistics(self, statistics: dict[str, np.ndarray]) -> None:
        """Takes "mean", and "scale" or "matrix" where the layer has one, over from
        `data.statistics.normalization`.
        """
        for name, value in statistics.items():
            getattr(self, name).assign(value)

    def _constant(self, name: str, shape: tuple[int, ...], start: str) -> keras.Variable:
        return self.add_weight(shape=shape, initializer=start, trainable=False, name=name)
