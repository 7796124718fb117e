"""Local response normalization."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("cvpipe")
class LocalResponseNorm(keras.layers.Layer):
    """Divides each value by (2 + 10⁻⁴ × the sum of squares over 5 neighboring channels)^0.75
    (Krizhevsky et al. 2012, section 3.3).

    float [B, H, W, C] -> the same; computed in float32 under every dtype policy. Caffe divides the
    sum of squares by 5, unlike here.
    """

    def call(self, x: Any) -> Any:
        """Normalize `x` over each channel, the two before it and the two after it."""
        squares = keras.ops.square(keras.ops.cast(x, "float32"))
        padded = keras.ops.pad(squares, [[0, 0], [0, 0], [0, 0], [2, 2]])
        channels = x.shape[-1]
        total = sum(padded[..., first : first + channels] for first in range(5))
        root = keras.ops.rsqrt(2.0 + 1e-4 * total)
        # x^-0.75 = x^-0.5 · √(x^-0.5)
        return x * keras.ops.cast(root * keras.ops.sqrt(root), x.dtype)
