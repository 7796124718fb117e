"""Upsampling of feature maps: transposed convolution, and three ways to undo a pooling (CS231n,
In-network upsampling).

Dimensions: B images; H, W, C of a map; k×k pixels of a pooling's window; h = ceil(H / k), w =
ceil(W / k). Windows don't overlap. If H or W isn't a multiple of k, the last windows are smaller,
and an unpooled map is cropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from cvpipe.models.pyramid import Size

if TYPE_CHECKING:
    from cvpipe.config.segmentation_heads import UnpoolingKind


@keras.saving.register_keras_serializable("cvpipe")
def bilinear_kernel(shape: tuple[int, int, int, int], dtype: Any = None) -> tf.Tensor:
    """Kernel initializer with which a transposed convolution interpolates each channel bilinearly
    (Long et al. 2015, section 3.3).

    Args:
        shape: height and width of the kernel, output channels, input channels. For a stride of f
            the kernel has 2f pixels if f is even, else 2f − 1, as in `upsample`.
        dtype: dtype of the result; float32 by default.
    """
    rows, columns = (
        1 - np.abs(np.arange(length) - (length - 1) / 2) / ((length + 1) // 2)
        for length in shape[:2]
    )
    kernel = (
        rows[:, np.newaxis, np.newaxis, np.newaxis]
        * columns[:, np.newaxis, np.newaxis]
        * np.eye(*shape[2:])
    )
    return tf.constant(kernel, dtype or "float32")


def upsample(x: keras.KerasTensor, factor: int, *, learned: bool, name: str) -> keras.KerasTensor:
    """Apply a transposed convolution that is initialized as bilinear interpolation: [B, H, W, C] ->
    float32 [B, factor × H, factor × W, C].

    Its initial output is that of `tf.image.resize`, but with zeros beyond the edges. It has weights
    between all channels and no bias. If `learned` is False, a fixed interpolation without weights
    is applied instead. Outputs are float32 under every dtype policy, because they are class scores.
    """
    if not learned:
        return BilinearUpsampling(factor, name=name)(x)
    return keras.layers.Conv2DTranspose(
        x.shape[-1],
        2 * factor - factor % 2,
        factor,
        padding="same",
        use_bias=False,
        kernel_initializer=bilinear_kernel,
        dtype="float32",
        name=name,
    )(x)


def max_pool(x: tf.Tensor, window: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the maximum of each window and its position.

    XLA compiles this function, unlike `tf.nn.max_pool_with_argmax`. Among equal maxima, the first
    one, row by row, counts and gets the whole gradient.

    Args:
        x: float [B, H, W, C].
        window: k, from 2 to 15.

    Returns:
        The values, [B, h, w, C], and their positions in the window, uint8 [B, h, w, C]: row × k +
        column.
    """
    rows, columns = x.shape[1:3]
    # Pad with minus infinity, which is never the first maximum.
    x = tf.pad(
        x,
        [[0, 0], [0, -rows % window], [0, -columns % window], [0, 0]],
        constant_values=float("-inf"),
    )
    best, *others = tf.split(tf.nn.space_to_depth(x, window), window**2, axis=-1)
    positions = tf.zeros_like(best, tf.uint8)
    for index, values in enumerate(others, 1):
        larger = values > best
        best = tf.where(larger, values, best)
        positions = tf.where(larger, tf.constant(index, tf.uint8), positions)
    return best, positions


def max_unpool(x: tf.Tensor, positions: tf.Tensor, window: int, size: Size) -> tf.Tensor:
    """Put each value at the position of the maximum in `max_pool`, with zeros elsewhere (Zeiler and
    Fergus 2013, section 2.1).

    Args:
        x: [B, h, w, C].
        positions: uint8 [B, h, w, C], from `max_pool`.
        window: k.
        size: H, W.

    Returns:
        [B, H, W, C].
    """
    zeros = tf.zeros_like(x)
    return _spread(
        tf.concat([tf.where(positions == index, x, zeros) for index in range(window**2)], axis=-1),
        window,
        size,
    )


def bed_of_nails(x: tf.Tensor, window: int, size: Size) -> tf.Tensor:
    """Put each value at the upper left of its window, with zeros elsewhere. Arguments and result as
    for `max_unpool`.
    """
    return _spread(
        tf.pad(x, [[0, 0], [0, 0], [0, 0], [0, x.shape[-1] * (window**2 - 1)]]), window, size
    )


def nearest(x: tf.Tensor, window: int, size: Size) -> tf.Tensor:
    """Repeat each value over its window. Arguments and result as for `max_unpool`."""
    return _spread(tf.tile(x, [1, 1, 1, window**2]), window, size)


@keras.saving.register_keras_serializable("cvpipe")
class BilinearUpsampling(keras.layers.Layer):
    """Bilinear upsampling as a product of matrices: [B, H, W, C] -> [B, factor × H, factor × W, C].

    The result equals that of a transposed convolution with `bilinear_kernel`. The convolution would
    also multiply by the zeros between different channels, which takes C times as long.
    """

    def __init__(self, factor: int, dtype: Any = "float32", **settings: Any) -> None:
        super().__init__(dtype=dtype, **settings)
        self.factor = factor

    def call(self, x: Any) -> Any:
        """Return [B, factor H, factor W, C] for `x`, float [B, H, W, C]."""
        down, across = (tf.constant(self._weights(length), x.dtype) for length in x.shape[1:3])
        return tf.einsum("qw,bhwc->bhqc", across, tf.einsum("ph,bhwc->bpwc", down, x))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that recreate the layer."""
        return {**super().get_config(), "factor": self.factor}

    def _weights(self, length: int) -> np.ndarray:
        """Return the interpolation matrix of a line: float64 [factor × length, length]."""
        centers = np.arange(length) * self.factor + (self.factor - 1) / 2
        return np.maximum(
            1 - np.abs(np.arange(self.factor * length)[:, np.newaxis] - centers) / self.factor, 0
        )


@keras.saving.register_keras_serializable("cvpipe")
class MaxPoolingWithPositions(keras.layers.Layer):
    """Applies `max_pool` with windows of 2×2: [B, H, W, C] -> values and positions, [B, h, w,
    C].
    """

    def call(self, x: Any) -> Any:
        """Return the maxima and their positions."""
        return max_pool(x, 2)


@keras.saving.register_keras_serializable("cvpipe")
class Unpooling(keras.layers.Layer):
    """Undoes a pooling by 2: a map and the pooling's positions, [B, h, w, C], -> [B, H, W, C]."""

    def __init__(self, kind: UnpoolingKind, size: Size, **settings: Any) -> None:
        """Create the layer. `size` is H and W; only the kind "max" uses the positions."""
        super().__init__(**settings)
        self.kind = kind
        self.size = size

    def call(self, x: Any, positions: Any) -> Any:
        """Return `x` at the size of the map before pooling."""
        match self.kind:
            case "max":
                return max_unpool(x, positions, 2, self.size)
            case "bed_of_nails":
                return bed_of_nails(x, 2, self.size)
            case _:
                return nearest(x, 2, self.size)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that recreate the layer."""
        return {**super().get_config(), "kind": self.kind, "size": self.size}


def _spread(x: tf.Tensor, window: int, size: Size) -> tf.Tensor:
    """Spread the channels of each pixel over a window, row by row: [B, h, w, k² × C] -> [B, H, W,
    C].
    """
    return tf.nn.depth_to_space(x, window)[:, : size[0], : size[1]]
