"""Distributions of weights, gradients and activations on a fixed batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.example import Batch
from cvpipe.tasks.task import Task
from cvpipe.training.optimizers import moved_variables
from cvpipe.training.step import gradients_of, regularization


class Insight:
    """Inspects networks during training without changing them."""

    def __init__(
        self, networks: Mapping[str, keras.Model], task: Task, config: Config, batch: Batch
    ):
        """Prepare the inspection.

        Args:
            networks: the task's networks. Frozen networks get no gradients.
            task: the task. Gradients are those of its first update's loss.
            config: the configuration, for the L1 and L2 terms.
            batch: a training batch.
        """
        self._networks, self._batch, self._config = networks, batch, config
        self._update = task.updates[0]
        self._variables = moved_variables(self._update, networks)
        self._gradients = tf.function(self._differentiate, autograph=False)
        self._layers = {
            f"{name}/{layer.name}": layer.output
            for name, network in networks.items()
            if name not in task.frozen
            for layer in network.layers
            # Skip layers that are used several times, because they have several outputs.
            if layer.weights and len(layer._inbound_nodes) == 1
        }
        self._activations = {
            name: keras.Model(network.inputs, self._outputs_of(name))
            for name, network in networks.items()
            if self._outputs_of(name)
        }

    def look(self) -> tuple[dict[str, np.ndarray], float]:
        """Return arrays by name ("weights/…", "gradients/…" and "activations/…"), and the norm of
        the gradient over all trained weights.
        """
        kept = [
            (variable, variable.numpy())
            for network in self._networks.values()
            for variable in network.non_trainable_variables
        ]
        gradients = [np.asarray(gradient) for gradient in self._gradients()]
        # Undo the changes of BatchNorm statistics and dropout seeds by the forward pass in training
        # mode.
        for variable, value in kept:
            variable.assign(value)
        found = {f"weights/{v.path}": v.numpy() for v in self._variables}
        found |= {
            f"gradients/{v.path}": own for v, own in zip(self._variables, gradients, strict=True)
        }
        for name, model in self._activations.items():
            outputs = model(self._batch["image"], training=False)
            for layer, output in outputs.items():
                found[f"activations/{name}/{layer}"] = np.asarray(output, np.float32)
        norm = float(np.sqrt(sum(float(np.vdot(own, own)) for own in gradients)))
        return found, norm

    def _outputs_of(self, network: str) -> dict[str, Any]:
        begin = f"{network}/"
        return {
            path.removeprefix(begin): output
            for path, output in self._layers.items()
            if path.startswith(begin)
        }

    def _differentiate(self) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            losses = self._update.losses(
                self._networks, self._batch, tf.zeros([2], tf.int64)
            ).values()
            penalties = regularization(self._config, self._variables).values()
            loss = tf.add_n([*map(tf.reduce_mean, losses), *penalties])
        return gradients_of(loss, self._variables, tape)
