"""The score to explain, as a function of prepared images."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from cvpipe.errors import ConfigError, suggest
from cvpipe.models.folded import folded
from cvpipe.tasks.task import Task, Tensors

ANSWERS = ("head", "logits")
"""Name prefixes of layers whose outputs are answers."""
Score = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Maps prepared images float32 [B, H, W, C] and classes int32 [B] to scores [B]."""


class Subject(NamedTuple):
    """A network to explain, and the scores of its classes."""

    network: keras.Model
    class_scores: Callable[[Tensors], tf.Tensor]
    """Maps the network's outputs to scores, float32 [B, K]."""
    class_probabilities: Callable[[tf.Tensor], tf.Tensor] = tf.nn.softmax
    """Maps scores to 0…1, float32 [B, K]."""

    def score(self, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """Return the score of one class for each image, [B]."""
        return chosen(self.all_scores(images), classes)

    def probability(self, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """Return the probability of one class for each image, [B]."""
        return chosen(self.class_probabilities(self.all_scores(images)), classes)

    def folded(self) -> Subject:
        """Return a subject with the same scores up to rounding, from a copy of the network that is
        faster. Its gradients and feature maps can differ.
        """
        return self._replace(network=folded(self.network))

    def all_scores(self, images: tf.Tensor) -> tf.Tensor:
        """Return the scores of all classes, [B, K]."""
        return self.class_scores(self.network(images, training=False))


def subject_of(task: Task, networks: dict[str, keras.Model]) -> Subject:
    """Return the network of a task as a subject.

    Raises:
        ConfigError: the task has no classes, or several networks.
    """
    if task.class_scores is None or len(networks) != 1:
        raise ConfigError(
            "this task has no class scores to explain; use a task with classes, such as"
            " classification or detection"
        )
    [network] = networks.values()
    return Subject(network, task.class_scores, task.class_probabilities)


def chosen(scores: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Select the score of one class per image, [B], from scores [B, K]."""
    return tf.gather(scores, classes, axis=1, batch_dims=1)


def stage_layers(network: keras.Model) -> list[keras.layers.Layer]:
    """Return the last layer of each size of feature map, from the image to the output.

    Raises:
        ConfigError: the network has no feature map.
    """
    last: dict[tuple[int, ...], keras.layers.Layer] = {}
    for layer in _maps(network):
        size = layer.output.shape[1:3]
        # Insert again, so that sizes are in the order of their last layers.
        last.pop(size, None)
        last[size] = layer
    return list(last.values())


def feature_layer(network: keras.Model, name: str | None = None) -> keras.layers.Layer:
    """Return the layer with the given name, or the last feature map that all outputs depend on.
    For a detector with heads on several maps, this is the first of these maps. Outputs of heads
    don't count.

    Raises:
        ConfigError: there is no such layer, or its output isn't a feature map.
    """
    maps = _maps(network)
    if name is None:
        features = [layer for layer in maps if not layer.name.startswith(ANSWERS)]
        whole = (layer for layer in reversed(features) if _all_depend_on(network, layer))
        return next(whole, maps[-1])
    found = {layer.name: layer for layer in maps}
    if name not in found:
        raise ConfigError(f"--layer {name}: not a feature map; {suggest(name, found)}")
    return found[name]


def _all_depend_on(network: keras.Model, layer: keras.layers.Layer) -> bool:
    """Return True if each path from the image to an output goes through the layer."""
    reached_without = {id(x) for x in network.inputs}
    for operation in network.operations:
        if operation is layer or isinstance(operation, keras.layers.InputLayer):
            continue
        if any(id(x) in reached_without for x in keras.tree.flatten(operation.input)):
            reached_without |= {id(x) for x in keras.tree.flatten(operation.output)}
    return not any(id(x) in reached_without for x in network.outputs)


def _maps(network: keras.Model) -> list[keras.layers.Layer]:
    # Layers before the first one with a kernel, such as a normalization, output the image itself.
    kernels = [n for n, layer in enumerate(network.layers) if hasattr(layer, "kernel")]
    maps = [layer for layer in network.layers[min(kernels, default=0) :] if _is_map(layer)]
    if not maps:
        raise ConfigError(
            "the network has no feature map; explain it by a method that needs none, such as"
            " saliency or occlusion"
        )
    return maps


def _is_map(layer: keras.layers.Layer) -> bool:
    if isinstance(layer, keras.layers.InputLayer) or len(layer._inbound_nodes) != 1:
        return False
    shape: tuple[int | None, ...] = getattr(layer.output, "shape", ())
    return len(shape) == 4 and (shape[1] or 2) * (shape[2] or 2) > 1
