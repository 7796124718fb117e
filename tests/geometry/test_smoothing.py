"""Guards the smoothing of maps, against SciPy's Gaussian filter."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import gaussian_filter

from cvpipe.geometry.smoothing import smooth


@pytest.mark.parametrize("sigma", [0.7, 2.0, 4.0])
def test_maps_are_smoothed_as_scipy_does(sigma: float) -> None:
    maps = np.random.default_rng(0).random((2, 20, 33, 1)).astype(np.float32)
    found = smooth(tf.constant(maps), sigma)
    for image, each in zip(maps, found, strict=True):
        np.testing.assert_allclose(each[..., 0], gaussian_filter(image[..., 0], sigma), atol=1e-6)


def test_a_sigma_of_0_changes_nothing_and_a_large_sigma_keeps_the_mean() -> None:
    maps = tf.random.stateless_uniform([1, 6, 4, 1], [1, 2])
    assert smooth(maps, 0.0) is maps
    flat = smooth(tf.ones([1, 6, 4, 1]), 30.0)
    np.testing.assert_allclose(flat, np.ones((1, 6, 4, 1)), rtol=1e-6)
