"""Layers that drop values at random in training.

Dimensions: B examples; N inputs and K outputs of a layer.

Keras's own layers number their seed generators over the whole process (`seed_generator_3`), so
paths may differ when a checkpoint is restored. Here a seed generator is named after its layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def next_seed(generator: keras.random.SeedGenerator) -> tf.Tensor:
    """Return the generator's next seed, int32 [2]. It differs on each replica, although the
    replicas' generators have the same state.
    """
    # Stateless operations take int32, which XLA can compile; the state is int64.
    seed = tf.cast(tf.math.floormod(generator.next(), tf.int32.max - 1), tf.int32)
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return seed
    return tf.random.experimental.stateless_fold_in(seed, replica.replica_id_in_sync_group)


@keras.saving.register_keras_serializable("cvpipe")
class Dropout(keras.layers.Layer):
    """Sets a share of its input to zero in training and scales the rest up (Srivastava et al.
    2014).
    """

    def __init__(self, rate: float, name: str | None = None, **settings: Any) -> None:
        super().__init__(name=name, **settings)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(name=self.name)

    def call(self, x: Any, training: bool = False) -> Any:
        """Drop values of `x` in training."""
        return _drop(x, self.rate, tf.shape(x), self.seed_generator) if training else x

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that recreate the layer."""
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("cvpipe")
class StochasticDepth(keras.layers.Layer):
    """Drops a whole residual branch for a share of the examples in training (Huang et al. 2016,
    section 3).

    A branch is dropped for each example separately; the paper drops it for whole batches. Branches
    that are kept are scaled up in training, whereas the paper scales all branches down in
    evaluation.
    """

    def __init__(self, rate: float, name: str | None = None, **settings: Any) -> None:
        super().__init__(name=name, **settings)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(name=self.name)

    def call(self, branch: Any, training: bool = False) -> Any:
        """Drop whole examples of `branch`, float [B, H, W, C], in training."""
        return (
            _drop(branch, self.rate, [tf.shape(branch)[0], 1, 1, 1], self.seed_generator)
            if training
            else branch
        )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that recreate the layer."""
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("cvpipe")
class DropConnect(keras.layers.Dense):
    """A dense layer, [B, N] to [B, K], that sets a share of its weights to zero in training and
    scales the rest up (Wan et al. 2013).

    One mask is drawn per step and replica; the paper draws one per example, which takes B times the
    memory of the kernel. Evaluation uses all weights, which is the mean over masks; the paper
    samples masks. Biases aren't dropped.
    """

    def __init__(self, units: int, rate: float, **settings: Any) -> None:
        super().__init__(units, **settings)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(name=self.name)

    def call(self, x: Any, training: bool = False) -> Any:
        """Map `x`, float [B, N], to [B, K]."""
        kernel = tf.convert_to_tensor(self.kernel)
        if training:
            kernel = _drop(kernel, self.rate, kernel.shape, self.seed_generator)
        return tf.matmul(x, kernel) + self.bias

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that recreate the layer."""
        return {**super().get_config(), "rate": self.rate}


def linear_decay(branches: int, last: float) -> list[float]:
    """Return the drop rate of each residual branch: l / branches × `last` for the lth (Huang et al.
    2016, linear decay).
    """
    return [last * (index + 1) / branches for index in range(branches)]


def _drop(
    x: tf.Tensor,
    rate: float,
    shape: Sequence[Any] | tf.Tensor,
    generator: keras.random.SeedGenerator,
) -> tf.Tensor:
    """Set a share of `x` to zero and scale the rest up, by a mask of `shape`, broadcast to `x`."""
    # Uniform numbers in half precision are too coarse to compare with a small rate.
    keep = tf.random.stateless_uniform(shape, next_seed(generator)) >= rate
    return x * tf.cast(tf.where(keep, 1 / (1 - rate), 0.0), x.dtype)
