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
    Inference and statistics over several replicas use Keras's code. So does float64, which the
    operation doesn't support.
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
            x=tf.cast(inputs, tf.float32),
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=unused,
            variance=unused,
            epsilon=self.epsilon,
            is_training=True,
        )
        # The operation returns the unbiased variance, n/(n − 1) times the batch's.
        count = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], tf.float32)
        self._follow(self.moving_mean, mean)
        self._follow(
            self.moving_variance, variance * (tf.maximum(count, 2.0) - 1) / tf.maximum(count, 2.0)
        )
        return tf.cast(outputs, self.compute_dtype)

    def _follow(self, moving: keras.Variable, value: tf.Tensor) -> None:
        moving.assign(moving * self.momentum + value * (1 - self.momentum))
