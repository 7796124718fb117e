"""Measure occlusion or RISE in cvpipe or Xplique: explain_steps.py occlusion|rise
small|mobilenet_v2 PIXELS IMAGES MASKS cvpipe|xplique.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from turns import answer, timed

BATCH, CLASSES, CELLS = 64, 10, 7
Explain = Callable[[], np.ndarray]


def network(name: str, pixels: int) -> keras.Model:
    """Return MobileNetV2, or a network of four convolutions for small images."""
    import keras

    keras.utils.set_random_seed(0)
    shape = (pixels, pixels, 3)
    if name == "mobilenet_v2":
        return keras.applications.MobileNetV2(
            shape, weights=None, classes=CLASSES, classifier_activation=None
        )
    image = x = keras.Input(shape)
    for filters, stride in ((16, 1), (32, 2), (32, 1), (64, 2)):
        x = keras.layers.Conv2D(filters, 3, stride, padding="same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(CLASSES)(x))


def patches(pixels: int) -> tuple[int, int]:
    """Return the side and the stride of the 15 × 15 patches of occlusion."""
    return pixels // 8, pixels // 16


def ours(
    work: str, model: keras.Model, images: np.ndarray, classes: np.ndarray, masks: int
) -> Explain:
    """Return a function that explains all images."""
    import tensorflow as tf

    from cvpipe.explain.perturbation import occlusion, rise
    from cvpipe.explain.score import Subject

    subject = Subject(model, lambda outputs: outputs).folded()
    patch, stride = patches(images.shape[1])

    @tf.function(autograph=False)
    def explain(x: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        if work == "occlusion":
            return occlusion(subject.score, x, labels, patch=patch, stride=stride, batch=BATCH)
        seed = tf.constant([0, 0], tf.int64)
        return rise(subject.score, x, labels, seed=seed, masks=masks, cells=CELLS, batch=BATCH)

    x, labels = tf.constant(images), tf.constant(classes, tf.int32)
    return lambda: explain(x, labels).numpy()


def xpliques(
    work: str, model: keras.Model, images: np.ndarray, classes: np.ndarray, masks: int
) -> Explain:
    """Return a function that explains all images."""
    from xplique.attributions import Occlusion, Rise

    patch, stride = patches(images.shape[1])
    explain = (
        Occlusion(model, BATCH, patch_size=patch, patch_stride=stride)
        if work == "occlusion"
        else Rise(model, BATCH, nb_samples=masks, grid_size=CELLS)
    )
    labels = np.eye(CLASSES, dtype=np.float32)[classes]
    return lambda: explain(images, labels).numpy()


def main(work: str, name: str, pixels: int, count: int, masks: int, library: str) -> None:
    """Measure a contestant."""
    if library == "cvpipe":
        from cvpipe.runtime import choose_kernels

        choose_kernels(onednn=True, deterministic=True)
    model = network(name, pixels)
    images = np.random.default_rng(0).normal(size=(count, pixels, pixels, 3)).astype(np.float32)
    classes = np.arange(count) % CLASSES
    explain = {"cvpipe": ours, "xplique": xpliques}[library](work, model, images, classes, masks)
    answer(timed(explain, time.process_time))


if __name__ == "__main__":
    work, name, *numbers, library = sys.argv[1:]
    pixels, count, masks = map(int, numbers)
    main(work, name, pixels, count, masks, library)
