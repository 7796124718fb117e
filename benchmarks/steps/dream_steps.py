"""Measure steps of one octave of DeepDream on ResNet-50 in cvpipe: dream_steps.py STEPS."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from cvpipe.runtime import choose_kernels
from turns import answer, timed

SIZE = (224, 224)
# The output of the third stage.
FEATURES = (14, 14, 1024)


def dreamer(steps: int) -> Callable[[], np.ndarray]:
    """Return a function that makes the steps in one call of the graph."""
    choose_kernels(onednn=True, deterministic=True)
    import tensorflow as tf

    from cvpipe.config.prepare import Prepare
    from cvpipe.models.build import classification_network
    from cvpipe.synthesis.dream import Dream, dream
    from cvpipe.synthesis.units import at_size

    network = classification_network("resnet50", (*SIZE, 3), 1000)
    layer = [x for x in network.layers if getattr(x.output, "shape", ())[1:] == FEATURES][-1]
    features = [at_size(network, layer, SIZE)]
    prepare = Prepare(size=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    settings = Dream(octaves=1, steps=steps)
    images = tf.random.stateless_uniform([1, *SIZE, 3], [0, 0])

    @tf.function(autograph=False)
    def make_steps(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return dream(features, images, [SIZE], prepare, seed, settings)

    seed = tf.constant([0, 0], tf.int64)
    return lambda: make_steps(seed)[0].numpy()


if __name__ == "__main__":
    answer(timed(dreamer(int(sys.argv[1])), time.process_time))
