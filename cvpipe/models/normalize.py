"""The normalization layer of a network, with statistics of the training set or of given weights.

Because it is a layer and not part of the input pipeline, its statistics are saved with the weights,
in checkpoints and in the artifact. Dimensions: B images; H, W, C of the network's input; D = H·W·C.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import keras
import numpy as np


@keras.saving.register_keras_serializable("cvpipe")
class Normalize(keras.layers.Layer):
    """Subtracts a mean, then multiplies by a scale or a matrix: float [B, H, W, C] in [0, 1] ->
    float32 [B, H, W, C].

    The values aren't trainable; `set_statistics` sets them.
    """

    def __init__(
        self,
        kind: str,
        shape: Sequence[int],
        dtype: Any = "float32",
        trainable: bool = False,
        **settings: Any,
    ) -> None:
        """Create the layer. `kind` is a value of `Prepare.normalize` except "given"; `shape` is H,
        W, C.
        """
        # Half precision is too coarse for small components.
        super().__init__(dtype=dtype, trainable=trainable, **settings)
        self.kind, self.shape = kind, tuple(shape)
        channels, whitens = self.shape[-1:], kind in ("pca", "zca")
        by_channel = kind in ("channels", "weights")
        self.mean = self._constant("mean", channels if by_channel else self.shape, "zeros")
        self.scale = self._constant("scale", channels, "ones") if by_channel else None
        self.matrix = self._constant("matrix", (prod(shape),) * 2, "identity") if whitens else None

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
        """Set "mean", and "scale" or "matrix" if the layer has one, from
        `data.statistics.normalization`.
        """
        for name, value in statistics.items():
            getattr(self, name).assign(value)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that recreate the layer."""
        return {**super().get_config(), "kind": self.kind, "shape": self.shape}

    def _constant(self, name: str, shape: tuple[int, ...], start: str) -> keras.Variable:
        return self.add_weight(shape=shape, initializer=start, trainable=False, name=name)
