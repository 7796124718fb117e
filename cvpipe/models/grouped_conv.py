"""Grouped convolutions."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from cvpipe.models.pooling import compiles_with_xla


@keras.saving.register_keras_serializable("cvpipe")
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with `groups`, for every device and for export.

    TensorFlow can't differentiate grouped convolutions on CPUs. Keras compiles them with XLA, but
    then exported files need XLA, too. This layer computes each group as a separate convolution,
    unless XLA compiles the whole graph.
    """

    def call(self, inputs: Any) -> Any:
        """Convolve `inputs`, float [B, H, W, C], to [B, h, w, filters]."""
        settings = {"strides": self.strides, "padding": self.padding.upper()}
        kernel = tf.convert_to_tensor(self.kernel)
        if compiles_with_xla():
            outputs = tf.nn.conv2d(inputs, kernel, **settings)
        else:
            pairs = zip(
                tf.split(inputs, self.groups, axis=-1),
                tf.split(kernel, self.groups, axis=-1),
                strict=True,
            )
            outputs = tf.concat([tf.nn.conv2d(*pair, **settings) for pair in pairs], axis=-1)
        return outputs + self.bias if self.use_bias else outputs
