"""Pooling that reduces each channel of a feature map to a position."""

from __future__ import annotations

import keras
import tensorflow as tf

from cvpipe.geometry.heatmaps import mean_places


@keras.saving.register_keras_serializable("cvpipe")
class SpatialSoftmax(keras.layers.Layer):
    """Mean position of each channel's softmax over the cells of a map (Levine et al. 2016,
    End-to-End Training of Deep Visuomotor Policies, section 5.2).

    float [B, h, w, C] -> [B, 2 C]: y of all channels, then x of all channels. Positions are
    fractions of the map's height and width, in -0.5…0.5 from the center.
    """

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return the positions, [B, 2 C]."""
        places, _ = mean_places(x)
        # Positions are centered at 0, because the next layer learns better from such inputs.
        return tf.concat(tf.unstack(places - 0.5, axis=-1), -1)
