"""Losses against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.losses import softmax_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_equals_its_definition(smoothing: float) -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(16, 5)) * 3, random.integers(0, 5, 16)
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    target = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
    given = softmax_cross_entropy(tf.constant(logits, tf.float32), tf.constant(labels, tf.int32), smoothing)
    np.testing.assert_allclose(given, -(target * log_probabilities).sum(-1), rtol=1e-4)


def test_equal_logits_cost_the_logarithm_of_the_number_of_classes() -> None:
    given = softmax_cross_entropy(tf.zeros([3, 10]), tf.constant([0, 4, 9]))
    np.testing.assert_allclose(given, np.log(10), rtol=1e-6)


def test_huge_logits_stay_finite() -> None:
    given = softmax_cross_entropy(tf.constant([[1e30, -1e30]]), tf.constant([0]))
    np.testing.assert_allclose(given, 0, atol=1e-6)
