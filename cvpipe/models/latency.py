"""Measured latency of a network."""

from __future__ import annotations

import time
from statistics import median

import tensorflow as tf

from cvpipe.models.build import classification_network, published

RUNS = 5
"""Number of measured calls, after a call that traces the graph."""


def latency(name: str) -> float:
    """Measure the time of the published network `name` for one image on this machine: the median of
    RUNS calls, in milliseconds.

    Raises:
        ConfigError: the catalog has no such network.
    """
    network = published(name)
    model = classification_network(name, network.input_shape, network.classes)
    answer = tf.function(lambda image: model(image, training=False)["logits"])
    image = tf.random.stateless_uniform((1, *network.input_shape), (0, 0))
    answer(image).numpy()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        answer(image).numpy()
        times.append(1000 * (time.perf_counter() - start))
    return median(times)
