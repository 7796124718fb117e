"""Class activation maps: feature maps weighted by the importance of their channels for a class.
Each function returns maps of nonnegative values, float32 [B, H, W].
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from cvpipe.explain.score import Subject, chosen

Weigh = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Maps features [B, h, w, F] and their gradients to weights of the channels, [B, 1, 1, F]."""


def grad_cam(
    subject: Subject, images: tf.Tensor, classes: tf.Tensor, layer: keras.layers.Layer
) -> tf.Tensor:
    """Return Grad-CAM (Selvaraju et al. 2017, equations 1 and 2)."""
    return _weighted(
        subject, images, classes, layer, lambda _, d: tf.reduce_mean(d, [1, 2], keepdims=True)
    )


def grad_cam_pp(
    subject: Subject, images: tf.Tensor, classes: tf.Tensor, layer: keras.layers.Layer
) -> tf.Tensor:
    """Return Grad-CAM++ (Chattopadhay et al. 2018, equations 10 and 19, for an exponential of the
    score).
    """

    def weigh(features: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        total = tf.reduce_sum(features, [1, 2], keepdims=True)
        below = 2 * gradient**2 + total * gradient**3
        alpha = tf.math.divide_no_nan(gradient**2, below)
        return tf.reduce_sum(alpha * tf.nn.relu(gradient), [1, 2], keepdims=True)

    return _weighted(subject, images, classes, layer, weigh)


def score_cam(
    subject: Subject,
    images: tf.Tensor,
    classes: tf.Tensor,
    layer: keras.layers.Layer,
    *,
    most: int = 64,
) -> tf.Tensor:
    """Return Score-CAM (Wang et al. 2020, algorithm 1). Each channel masks the image, and the score
    of the masked image is the channel's weight.

    Args:
        subject: the network.
        images: prepared images.
        classes: one class for each image.
        layer: layer of the feature map.
        most: number of channels to use: the channels with the largest range of values.
    """
    features, _ = _features(subject, images, layer)
    spread = tf.reduce_max(features, [1, 2]) - tf.reduce_min(features, [1, 2])
    count = min(most, features.shape[-1])
    channels = tf.math.top_k(spread, count).indices
    features = tf.gather(features, channels, axis=3, batch_dims=1)
    features = tf.image.resize(features, tf.shape(images)[1:3])
    masks = _scaled(features)

    def through(number: tf.Tensor) -> tf.Tensor:
        masked = images * tf.gather(masks, [number], axis=3)
        return chosen(subject.all_scores(masked), classes)

    scores = tf.map_fn(through, tf.range(count), fn_output_signature=tf.float32)
    weights = tf.nn.softmax(tf.transpose(scores))[:, tf.newaxis, tf.newaxis]
    return tf.nn.relu(tf.reduce_sum(weights * features, axis=-1))


def _weighted(
    subject: Subject, images: tf.Tensor, classes: tf.Tensor, layer: keras.layers.Layer, weigh: Weigh
) -> tf.Tensor:
    with tf.GradientTape() as tape:
        features, outputs = _features(subject, images, layer)
        # The tape can differentiate by the features, because the outputs are computed from them.
        score = tf.reduce_sum(chosen(subject.class_scores(outputs), classes))
    gradient = tape.gradient(score, features)
    if gradient is None:
        gradient = tf.zeros_like(features)
    features, gradient = tf.cast(features, tf.float32), tf.cast(gradient, tf.float32)
    weighted = tf.nn.relu(tf.reduce_sum(weigh(features, gradient) * features, axis=-1))
    resized = tf.image.resize(weighted[..., tf.newaxis], tf.shape(images)[1:3])
    return tf.ensure_shape(resized[..., 0], images.shape[:3])


def _features(
    subject: Subject, images: tf.Tensor, layer: keras.layers.Layer
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Return a layer's feature map, and the outputs computed from it."""
    network = subject.network
    model = keras.Model(network.inputs, {"": layer.output, **network.output})
    outputs = model(images, training=False)
    return outputs.pop(""), outputs


def _scaled(maps: tf.Tensor) -> tf.Tensor:
    """Scale each map [B, H, W, F] to 0…1."""
    low = tf.reduce_min(maps, [1, 2], keepdims=True)
    return tf.math.divide_no_nan(maps - low, tf.reduce_max(maps, [1, 2], keepdims=True) - low)
