"""A small GAN on digits (Goodfellow et al. 2014): a task of two networks and two optimizers.

Dimensions: B images, Z numbers of noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.example import Batch
from cvpipe.data.facts import Facts
from cvpipe.data.sources import Example
from cvpipe.fields import Field
from cvpipe.models.random_layers import Dropout
from cvpipe.tasks.task import BestBy, Networks, Request, Task, Tensors, Update

NOISE = 16
ANSWERS = {"realness": Field("close"), "image": Field("close")}


class GanMetrics:
    """Certainty of the discriminator about real images."""

    def __init__(self) -> None:
        self._sum, self._weight = 0.0, 0.0

    def update(
        self,
        predictions: Mapping[str, np.ndarray],
        targets: Mapping[str, np.ndarray],
        weight: np.ndarray,
    ) -> None:
        """Add a batch's answers."""
        self._sum += float((weight * predictions["realness"]).sum())
        self._weight += float(weight.sum())

    def result(self) -> dict[str, Any]:
        """Return how far the mean realness lies from 0.5, the discriminator's answer when it can't
        tell real images from generated ones.
        """
        return {"certainty": abs(self._sum / self._weight - 0.5)}


def make_task(config: Config, facts: Facts) -> Task:
    """Return the GAN, bound to a pipeline."""
    size = (*config.prepare.size, config.prepare.channels)

    def build(synchronized: bool) -> dict[str, keras.Model]:
        return {"generator": _generator(size), "discriminator": _discriminator(size)}

    def fake(networks: Networks, count: tf.Tensor, seed: tf.Tensor, training: bool) -> tf.Tensor:
        noise = tf.random.stateless_normal([count, NOISE], seed)
        return networks["generator"](noise, training=training)["image"]

    def discriminate(networks: Networks, batch: Batch, seed: tf.Tensor) -> Tensors:
        image = batch["image"]
        made = tf.stop_gradient(fake(networks, tf.shape(image)[0], seed, training=True))
        return {
            "real": _cross_entropy(networks, image, 1.0),
            "fake": _cross_entropy(networks, made, 0.0),
        }

    def generate(networks: Networks, batch: Batch, seed: tf.Tensor) -> Tensors:
        made = fake(networks, tf.shape(batch["image"])[0], seed, training=True)
        return {"fooled": _cross_entropy(networks, made, 1.0)}

    def predict(
        networks: Networks, image: tf.Tensor, extent: tf.Tensor | None = None, **options: tf.Tensor
    ) -> Tensors:
        logits = networks["discriminator"](image, training=False)["logits"]
        return {"realness": tf.sigmoid(logits[:, 0])}

    def requests(networks: Networks) -> tuple[Request, ...]:
        def sample(seed: tf.Tensor, count: tf.Tensor) -> Tensors:
            return {"image": fake(networks, count, seed, training=False)}

        specs = (tf.TensorSpec([2], tf.int64, "seed"), tf.TensorSpec([], tf.int32, "count"))
        samples = {"seed": np.array([3, 4], np.int64), "count": np.array(5, np.int32)}
        return (Request("serving_default", specs, sample, samples),)

    return Task(
        build=build,
        encode=encode,
        updates=(
            Update(discriminate, moves=("discriminator",), optimizer="discriminator"),
            Update(generate, moves=("generator",), optimizer="generator"),
        ),
        predict=predict,
        answers=ANSWERS,
        metrics=GanMetrics,
        best_by=BestBy("certainty", "min"),
        requests=requests,
    )


def encode(example: Example) -> Tensors:
    """Return no targets: a GAN learns from images alone."""
    return {}


def _cross_entropy(networks: Networks, image: tf.Tensor, label: float) -> tf.Tensor:
    logits = networks["discriminator"](image, training=True)["logits"][:, 0]
    return tf.nn.sigmoid_cross_entropy_with_logits(label * tf.ones_like(logits), logits)


def _generator(size: tuple[int, ...]) -> keras.Model:
    noise = keras.Input([NOISE], name="noise")
    x = keras.layers.Dense(64, activation="relu", name="hidden")(noise)
    x = keras.layers.Dense(int(np.prod(size)), activation="tanh", name="pixels")(x)
    image = keras.layers.Reshape(size, name="image")(x)
    return keras.Model(noise, {"image": image}, name="generator")


def _discriminator(size: tuple[int, ...]) -> keras.Model:
    image = keras.Input(size, name="image")
    x = keras.layers.Flatten(name="flat")(image)
    x = keras.layers.Dense(64, activation="relu", name="hidden")(x)
    x = Dropout(0.2, name="dropout")(x)
    return keras.Model(
        image, {"logits": keras.layers.Dense(1, name="logits")(x)}, name="discriminator"
    )
