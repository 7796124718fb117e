"""Pooling that keeps places: the point that each channel of a feature map looks at."""

from __future__ import annotations

import keras
import tensorflow as tf

from cvpipe.geometry.heatmaps import mean_places


@keras.saving.register_keras_serializable("cvpipe")
class SpatialSoftmax(keras.layers.Layer):
    """Mean place of each channel's softmax over the cells of a map (Levine et al. 2016, End-to-End
    Training of Deep Visuomotor Policies, section 5.2).

    float [B, h, w, C] -> [B, 2 C]: y of each channel and then its x, as fractions of the map from
    its middle, in -0.5…0.5.
    """

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return the places, [B, 2 C]."""
        places, _ = mean_places(x)
        # Around 0, as what enters a layer should be.
        return tf.concat(tf.unstack(places - 0.5, axis=-1), -1)
