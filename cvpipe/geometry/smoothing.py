"""Gaussian smoothing of maps."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

REACH = 4.0
"""Radius at which the kernel is cut off, in standard deviations, as in SciPy."""


def smooth(maps: tf.Tensor, sigma: float) -> tf.Tensor:
    """Smooth maps, float32 [B, H, W, 1] of known H and W, by a Gaussian with a standard deviation
    of `sigma` pixels; the border is mirrored, including the edge pixel. With a `sigma` of 0 the
    maps are returned unchanged.
    """
    if sigma == 0:
        return maps
    for axis in (1, 2):
        # Mirroring can't add more pixels than the map has.
        radius = min(round(REACH * sigma), int(maps.shape[axis]))
        places = np.arange(-radius, radius + 1)
        weights = np.exp(-0.5 * (places / sigma) ** 2)
        kernel = (weights / weights.sum()).astype(np.float32)
        shape = [1, 1, 1, 1]
        shape[axis - 1] = len(kernel)
        around = [[radius, radius] if dimension == axis else [0, 0] for dimension in range(4)]
        padded = tf.pad(maps, around, "SYMMETRIC")
        maps = tf.nn.conv2d(padded, kernel.reshape(shape), 1, "VALID")
    return maps
