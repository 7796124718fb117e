"""Patches of images that activate channels most (Zeiler and Fergus 2014, section 4), and the mean
features of images, found in one pass over a split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf


class Top(NamedTuple):
    """The strongest activations of a layer's F channels, in different images."""

    values: np.ndarray
    """float32 [F, n], in descending order."""
    images: np.ndarray
    """int64 [F, n]: positions of the images in the split."""
    places: np.ndarray
    """int64 [F, n, 2]: row and column in the feature map."""


class Watched:
    """Collector of activations over the batches of a split. It keeps the n strongest activations of
    each channel, and the features of each image.
    """

    def __init__(
        self,
        network: keras.Model,
        layers: Sequence[keras.layers.Layer],
        features: keras.layers.Layer,
        most: int,
    ):
        """Begin without any activations.

        Args:
            network: the network.
            layers: layers whose outputs are feature maps, and whose channels are watched.
            features: the layer whose map, averaged over places, gives the features of an image.
            most: n, the number of images to keep for each channel.
        """
        outputs = {layer.name: layer.output for layer in [*layers, features]}
        model = keras.Model(network.inputs, outputs)
        names, last, self._most = [layer.name for layer in layers], features.name, most

        @tf.function(reduce_retracing=True, autograph=False)
        def look(images: tf.Tensor) -> tuple[dict[str, tuple[tf.Tensor, tf.Tensor]], tf.Tensor]:
            maps = {
                name: tf.cast(x, tf.float32) for name, x in model(images, training=False).items()
            }
            flat = {
                name: tf.reshape(maps[name], [-1, _area(maps[name]), maps[name].shape[-1]])
                for name in names
            }
            found = {name: (tf.reduce_max(x, 1), tf.argmax(x, 1)) for name, x in flat.items()}
            return found, tf.reduce_mean(maps[last], [1, 2])

        self._look = look
        self._widths = {layer.name: layer.output.shape[2] for layer in layers}
        self._tops: dict[str, Top] = {}
        self._features: list[np.ndarray] = []
        self._index: list[np.ndarray] = []

    def add(self, images: np.ndarray, index: np.ndarray) -> None:
        """Add prepared images, float32 [B, H, W, C], with their positions in the split, int64
        [B].
        """
        found, features = self._look(tf.constant(images))
        self._features.append(features.numpy())
        self._index.append(index)
        for name, (values, places) in found.items():
            rows, columns = np.divmod(places.numpy().T, self._widths[name])
            top = Top(
                values.numpy().T,
                np.broadcast_to(index, values.shape[::-1]),
                np.stack([rows, columns], -1),
            )
            self._tops[name] = _best(
                [self._tops[name], top] if name in self._tops else [top], self._most
            )

    @property
    def tops(self) -> dict[str, Top]:
        """The strongest activations by layer."""
        return self._tops

    @property
    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """Features of the images, float32 [N, F], and their positions in the split, int64 [N]."""
        return np.concatenate(self._features), np.concatenate(self._index)


def _best(tops: Sequence[Top], most: int) -> Top:
    values, index, places = (np.concatenate(parts, 1) for parts in zip(*tops, strict=True))
    order = np.argsort(-values, axis=1, kind="stable")[:, :most]
    return Top(
        np.take_along_axis(values, order, 1),
        np.take_along_axis(index, order, 1),
        np.take_along_axis(places, order[..., np.newaxis], 1),
    )


def _area(features: tf.Tensor) -> int:
    return int(features.shape[1] * features.shape[2])
