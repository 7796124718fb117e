"""Sanity check of a method: its maps for a network with random weights should differ from its maps
for the trained network (Adebayo et al. 2018, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from cvpipe.explain.explain import explain
from cvpipe.explain.quality import rank_correlation
from cvpipe.explain.score import Subject


def randomized(subject: Subject, seed: int = 0) -> Iterator[tuple[str, Subject]]:
    """Yield copies of a network whose weights are shuffled from the last layer on, one more layer
    in each copy ("cascading randomization"), with the name of the last shuffled layer. Shuffled
    weights keep their distribution.

    All copies are the same model, which changes in place, so use a copy before requesting the next.
    """
    network = keras.models.clone_model(subject.network)
    network.set_weights(subject.network.get_weights())
    random = np.random.default_rng(seed)
    for layer in reversed(network.layers):
        if not layer.trainable_weights:
            continue
        for variable in layer.trainable_weights:
            values = variable.numpy()
            variable.assign(random.permutation(values.ravel()).reshape(values.shape))
        yield layer.name, subject._replace(network=network)


def similarities(
    subject: Subject,
    images: tf.Tensor,
    classes: tf.Tensor,
    method: str,
    *,
    layer: str | None = None,
    trained_maps: np.ndarray | None = None,
    seed: int = 0,
    points: int = 6,
) -> dict[str, float]:
    """Return the mean absolute rank correlation of maps with those of randomized networks, by the
    name of the last randomized layer, in the order from output to input. If it is near 1, the
    method shows the image rather than what the network learned.

    Args:
        subject: the network.
        images: prepared images.
        classes: one class for each image.
        method: name of the method.
        layer: layer of class activation maps; None: the last feature map.
        trained_maps: maps of the trained network, float32 [B, H, W]; None to compute them.
        seed: random seed of the shuffling.
        points: number of layers at which maps are compared, including the network's first layer.
    """
    if trained_maps is None:
        trained_maps = explain(subject, images, classes, [method], layer)[method]
    count = sum(bool(part.trainable_weights) for part in subject.network.layers)
    compared = set(np.linspace(count - 1, 0, points).round().astype(int).tolist())
    found = {}
    for number, (name, changed) in enumerate(randomized(subject, seed)):
        if number in compared:
            maps = explain(changed, images, classes, [method], layer)[method]
            found[name] = float(np.abs(rank_correlation(np.abs(trained_maps), np.abs(maps))).mean())
    return found
