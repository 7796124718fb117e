"""Guards spatial softmax: the layer returns the position of each channel's peak."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvpipe.models.spatial_softmax import SpatialSoftmax

PEAKS = [(0, 0), (2, 4), (3, 1)]
"""Row and column of the peak of each channel."""


def peaked(height: float) -> np.ndarray:
    """Return a map [1, 4, 6, 3] with a peak of this height in each channel, and 0 elsewhere."""
    features = np.zeros((1, 4, 6, len(PEAKS)), np.float32)
    for channel, (row, column) in enumerate(PEAKS):
        features[0, row, column, channel] = height
    return features


def test_the_position_of_a_peak_is_measured_from_the_center() -> None:
    places = SpatialSoftmax()(peaked(50.0)).numpy()
    rows, columns = np.array(PEAKS).T
    expected = [*((rows + 0.5) / 4 - 0.5), *((columns + 0.5) / 6 - 0.5)]
    np.testing.assert_allclose(places, [expected], atol=1e-6)


def test_the_position_in_a_constant_map_is_the_center() -> None:
    np.testing.assert_allclose(SpatialSoftmax()(peaked(0.0)), np.zeros((1, 6)), atol=1e-6)


def test_gradients_move_the_position() -> None:
    features = tf.constant(peaked(1.0))
    with tf.GradientTape() as tape:
        tape.watch(features)
        first = SpatialSoftmax()(features)[0, 0]
    gradient = tape.gradient(first, features).numpy()[0, ..., 0]
    # Larger values below the mean position move it down, and larger values above move it up.
    assert (gradient[-1] > 0).all() and (gradient[0] < 0).all()
