"""Max-pooling with a deterministic gradient that XLA compiles.

TensorFlow refuses to compile its own gradient of max-pooling while op determinism is enabled.
Dimensions: B images; H, W, C of a map; h, w of the pooled map.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.ops import control_flow_util

Size = Sequence[int]
"""Rows and columns of a window or a stride."""


@keras.saving.register_keras_serializable("cvpipe")
class MaxPooling2D(keras.layers.MaxPooling2D):
    """`keras.layers.MaxPooling2D` whose gradient XLA compiles (`max_pool`).

    Without XLA, `call` is that of Keras's layer, whose kernels are faster.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the maximum of each window, float [B, h, w, C]."""
        fixed_size = self.data_format == "channels_last" and None not in inputs.shape[1:3]
        if fixed_size and compiles_with_xla():
            return max_pool(inputs, self.pool_size, self.strides, self.padding)
        return super().call(inputs)


def with_exact_pooling(model: keras.Model) -> keras.Model:
    """Replace Keras's max-poolings in `model` by those of this module, in place.

    Names, variables and weights stay as they are.
    """
    for layer in model.layers:
        if type(layer) is keras.layers.MaxPooling2D:
            # The layers differ only in `call`. Cloning the model would draw all its weights again.
            layer.__class__ = MaxPooling2D
    return model


def max_pool(x: tf.Tensor, size: Size, strides: Size, padding: str) -> tf.Tensor:
    """Return the maximum of each window of `x`, with the gradient of TensorFlow's CPU kernel.

    The first maximum of a window, row by row, gets the whole gradient.

    Args:
        x: float [B, H, W, C]; H and W are known when the graph is traced.
        size: height and width of a window.
        strides: vertical and horizontal stride of the windows.
        padding: "valid" or "same".

    Returns:
        [B, h, w, C], as `tf.nn.max_pool2d`.
    """

    @tf.custom_gradient
    def pool(x: tf.Tensor) -> tuple[tf.Tensor, object]:
        pooled = tf.nn.max_pool2d(x, size, strides, padding.upper())

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return _to_first_maxima(x, upstream, size, strides, padding)

        return pooled, gradient

    return pool(x)


def _to_first_maxima(
    x: tf.Tensor, upstream: tf.Tensor, size: Size, strides: Size, padding: str
) -> tf.Tensor:
    """Return the gradient of `max_pool` with respect to `x`, [B, H, W, C]; `upstream` is
    [B, h, w, C].
    """
    pixels, windows = x.shape[1:3], upstream.shape[1:3]
    before, after = _padding(pixels, windows, size, strides, padding)
    paddings = [[0, 0], *zip(before, after, strict=True), [0, 0]]
    padded = tf.pad(x, paddings, constant_values=float("-inf"))
    slices = [_slice(offset, windows, strides) for offset in itertools.product(*map(range, size))]
    positions = _first_maxima(padded, slices, _first_inside(windows, size, strides, before))
    total, zero = tf.zeros_like(padded), tf.zeros_like(upstream)
    # The loop begins with the last position, so that the gradients of the windows that share a
    # pixel are added row by row, in the order of TensorFlow's kernel.
    for position, (begin, end, step) in reversed(list(enumerate(slices))):
        total += tf.raw_ops.StridedSliceGrad(
            shape=tf.shape(padded),
            begin=begin,
            end=end,
            strides=step,
            dy=tf.where(positions == position, upstream, zero),
            begin_mask=ALL,
            end_mask=ALL,
        )
    return total[:, before[0] : before[0] + pixels[0], before[1] : before[1] + pixels[1]]


ALL = 0b1001
"""Mask of a strided slice over all images and channels."""


def _first_maxima(
    padded: tf.Tensor, slices: Sequence[tuple[Size, Size, Size]], first: np.ndarray
) -> tf.Tensor:
    """Return the position of the first maximum in each window, int32 [B, h, w, C].

    `first` is the first position that is searched. Windows of NaN return this position, as in
    TensorFlow.
    """
    best = positions = None
    for position, (begin, end, step) in enumerate(slices):
        values = tf.strided_slice(padded, begin, end, step, begin_mask=ALL, end_mask=ALL)
        if best is None:
            best, positions = values, tf.broadcast_to(first, tf.shape(values))
            continue
        larger = values > best
        if (first == position).any():
            larger |= first == position
        best = tf.where(larger, values, best)
        positions = tf.where(larger, position, positions)
    return positions


def _first_inside(windows: Size, size: Size, strides: Size, before: Size) -> np.ndarray:
    """Return the position of the first pixel that isn't padding in each window, int32 [h, w, 1]."""
    rows, columns = (
        np.maximum(before[axis] - strides[axis] * np.arange(windows[axis]), 0) for axis in (0, 1)
    )
    return (size[1] * rows[:, np.newaxis] + columns)[..., np.newaxis].astype(np.int32)


def _padding(
    pixels: Size, windows: Size, size: Size, strides: Size, padding: str
) -> tuple[list[int], list[int]]:
    """Return the padding before and after, along each axis, as in TensorFlow."""
    if padding == "valid":
        return [0, 0], [0, 0]
    missing = [
        max((windows[axis] - 1) * strides[axis] + size[axis] - pixels[axis], 0) for axis in (0, 1)
    ]
    return [count // 2 for count in missing], [count - count // 2 for count in missing]


def _slice(offset: Size, windows: Size, strides: Size) -> tuple[Size, Size, Size]:
    """Return begin, end and strides of the slice [B, h, w, C] that has the pixel at `offset` of
    each window.
    """
    end = [offset[axis] + strides[axis] * (windows[axis] - 1) + 1 for axis in (0, 1)]
    return [0, *offset, 0], [0, *end, 0], [1, *strides, 1]


def compiles_with_xla() -> bool:
    """Return True if XLA will compile the graph that is being traced, by `jit_compile` or for a
    TPU.
    """
    # TensorFlow has no public function for this. The layer can't know it earlier, because the use
    # of XLA is decided after the network is built.
    return not tf.executing_eagerly() and control_flow_util.GraphOrParentsInXlaContext(
        tf.compat.v1.get_default_graph()
    )
