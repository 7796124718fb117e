"""The score to explain, as a function of prepared images."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from cvpipe.errors import ConfigError, suggest
from cvpipe.tasks.task import Task, Tensors

Score = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Maps prepared images float32 [B, H, W, C] and classes int32 [B] to scores [B]."""


class Subject(NamedTuple):
    """A network to explain, and the scores of its classes."""

    network: keras.Model
    class_scores: Callable[[Tensors], tf.Tensor]
    """Maps the network's outputs to scores, float32 [B, K]."""

    def score(self, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """Return the score of one class for each image, [B]."""
        return chosen(self.all_scores(images), classes)

    def all_scores(self, images: tf.Tensor) -> tf.Tensor:
        """Return the scores of all classes, [B, K]."""
        return self.class_scores(self.network(images, training=False))


def subject_of(task: Task, networks: dict[str, keras.Model]) -> Subject:
    """Return the network of a task as a subject.

    Raises:
        ConfigError: the task has no classes, or several networks.
    """
    if task.class_scores is None or len(networks) != 1:
        raise ConfigError("this task has no class scores to explain")
    [network] = networks.values()
    return Subject(network, task.class_scores)


def chosen(scores: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Select the score of one class per image, [B], from scores [B, K]."""
    return tf.gather(scores, classes, axis=1, batch_dims=1)


def feature_layer(network: keras.Model, name: str | None = None) -> keras.layers.Layer:
    """Return the layer with the given name, or the last layer whose output is a feature map.

    Raises:
        ConfigError: there is no such layer, or its output isn't a feature map.
    """
    maps = [layer for layer in network.layers if _is_map(layer)]
    if not maps:
        raise ConfigError(
            "the network has no feature map; use a method without one, such as saliency or"
            " occlusion"
        )
    if name is None:
        return maps[-1]
    found = {layer.name: layer for layer in maps}
    if name not in found:
        raise ConfigError(f"--layer {name}: not a feature map; {suggest(name, found)}")
    return found[name]


def _is_map(layer: keras.layers.Layer) -> bool:
    if isinstance(layer, keras.layers.InputLayer) or len(layer._inbound_nodes) != 1:
        return False
    shape: tuple[int | None, ...] = getattr(layer.output, "shape", ())
    return len(shape) == 4 and (shape[1] or 2) * (shape[2] or 2) > 1
