"""Batch normalization by one operation. Keras 3 uses eight operations, each of which reads the
whole feature map.

Dimensions: B examples; H, W, C of a feature map; n = B·H·W.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("cvpipe")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization of [B, H, W, C] over B, H and W by TensorFlow's fused operation in
    training.

    Variables are those of keras.layers.BatchNormalization, and results are equal up to rounding.
    Inference, statistics over several replicas, and float64, which the operation doesn't support,
    use Keras's code; only the exchange between replicas is replaced by `moments_of_replicas`.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
        """Normalize float [B, H, W, C] by the batch's mean and variance in training, else by the
        moving mean and variance.
        """
        if (
            not (training and self.trainable)
            or self.synchronized
            or self.compute_dtype == "float64"
        ):
            return super().call(inputs, training=training, mask=mask)
        unused = tf.zeros([0])
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=unused,
            variance=unused,
            epsilon=self.epsilon,
            is_training=True,
        )
        # The operation returns the unbiased variance, n/(n − 1) times the batch's.
        count = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], tf.float32)
        self._update_moving(self.moving_mean, mean)
        self._update_moving(
            self.moving_variance, variance * (tf.maximum(count, 2.0) - 1) / tf.maximum(count, 2.0)
        )
        return tf.cast(outputs, self.compute_dtype)

    def _moments(self, inputs: tf.Tensor, mask: Any) -> tuple[tf.Tensor, tf.Tensor]:
        context = tf.distribute.get_replica_context()
        if not self.synchronized or context is None or mask is not None:
            return super()._moments(inputs, mask)
        return moments_of_replicas(inputs, context)

    def _update_moving(self, moving: keras.Variable, value: tf.Tensor) -> None:
        moving.assign(moving * self.momentum + value * (1 - self.momentum))


def moments_of_replicas(
    x: tf.Tensor, context: tf.distribute.ReplicaContext
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the mean and variance of each channel over the examples of all replicas.

    Replicas exchange numbers once for the moments, and once for the gradient. Keras exchanges sums,
    squares and counts one after the other.

    Args:
        x: float [..., C].
        context: context of a replica in a distribution strategy.

    Returns:
        Mean and variance, float [C], in the dtype of `x`.
    """
    values = tf.cast(x, tf.float32) if x.dtype.size < tf.float32.size else x
    axes = list(range(len(x.shape) - 1))
    count = tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), values.dtype)
    sums = [tf.reduce_sum(values, axes), tf.reduce_sum(tf.square(values), axes), count[None]]
    total, squares, count = tf.split(
        context.all_reduce("SUM", tf.concat(sums, axis=0)), [x.shape[-1], x.shape[-1], 1]
    )
    mean = total / count
    variance = tf.maximum(squares / count - tf.square(mean), 0)
    return tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)
