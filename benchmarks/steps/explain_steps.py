"""Occlusion, RISE and DeepDream: explain_steps.py cvpipe|xplique occlusion|rise NETWORK SIZE IMAGES
MASKS, and explain_steps.py cvpipe dream NETWORK STEPS.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from turns import answer, timed

BATCH, CLASSES, DREAM_SIZE, DREAM_FEATURES = 64, 10, 224, (14, 14, 1024)


def explainer(library: str, work: str, network: str, *numbers: int) -> Callable[[], Any]:
    """Return a function that explains all images of one batch."""
    import keras
    import numpy as np

    size, images, masks = numbers
    keras.utils.set_random_seed(0)
    model = _small(size) if network == "small" else _mobilenet(size)
    pixels = np.random.default_rng(0).normal(size=(images, size, size, 3)).astype(np.float32)
    classes = np.arange(images) % CLASSES
    patch, stride = size // 8, size // 16
    if library == "xplique":
        from xplique.attributions import Occlusion, Rise

        explain = (
            Occlusion(model, BATCH, patch_size=patch, patch_stride=stride, occlusion_value=0.0)
            if work == "occlusion"
            else Rise(model, BATCH, nb_samples=masks, grid_size=7)
        )
        labels = np.eye(CLASSES, dtype=np.float32)[classes]
        return lambda: np.asarray(explain(pixels, labels))

    import tensorflow as tf

    from cvpipe.explain.perturbation import occlusion, rise
    from cvpipe.explain.score import Subject

    subject = Subject(model, lambda outputs: outputs)

    @tf.function(autograph=False)
    def own(x: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        if work == "occlusion":
            return occlusion(subject.score, x, labels, patch=patch, stride=stride, batch=BATCH)
        seed = tf.constant([0, 0], tf.int64)
        return rise(subject.score, x, labels, seed=seed, masks=masks, batch=BATCH)

    x, labels = tf.constant(pixels), tf.constant(classes, tf.int32)
    return lambda: own(x, labels).numpy()


def dreamer(network: str, steps: int) -> Callable[[], Any]:
    """Return a function that makes steps of one octave."""
    import keras
    import tensorflow as tf

    from cvpipe.config.prepare import Prepare
    from cvpipe.models.build import classification_network
    from cvpipe.synthesis.dream import Dream, dream
    from cvpipe.synthesis.units import at_size

    size = (DREAM_SIZE, DREAM_SIZE)
    model = classification_network(network, (*size, 3), 1000)
    layer = [
        own
        for own in model.layers
        if isinstance(own.output, keras.KerasTensor) and own.output.shape[1:] == DREAM_FEATURES
    ][-1]
    features = [at_size(model, layer, size)]
    prepare = Prepare(size=size, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    settings = Dream(octaves=1, steps=steps)
    images = tf.random.stateless_uniform([1, *size, 3], [0, 0])

    @tf.function(autograph=False)
    def own(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return dream(features, images, [size], prepare, seed, settings)

    seed = tf.constant([0, 0], tf.int64)
    return lambda: own(seed)[0].numpy()


def _small(size: int) -> Any:
    """Return a network of four convolutions, as for digits or icons."""
    import keras

    image = x = keras.Input([size, size, 3])
    for filters, stride in ((16, 1), (32, 2), (32, 1), (64, 2)):
        x = keras.layers.Conv2D(filters, 3, stride, padding="same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(CLASSES)(x))


def _mobilenet(size: int) -> Any:
    import keras

    return keras.applications.MobileNetV2(
        (size, size, 3), weights=None, classes=CLASSES, classifier_activation=None
    )


if __name__ == "__main__":
    library, work, network, *rest = sys.argv[1:]
    numbers = map(int, rest)
    if library == "cvpipe":
        from cvpipe.runtime import choose_kernels

        choose_kernels(True, True)
    answer(
        timed(
            dreamer(network, *numbers)
            if work == "dream"
            else explainer(library, work, network, *numbers)
        )
    )
