"""Layers that store patches of normal images and measure the distance of other patches from the
stored ones.

Their weights aren't trained by gradients. `take_in` computes them from batches, as BatchNorm
computes its statistics, so a layer can be used after any step.

Dimensions: B images, h × w patches of C features each, K patches of a bank.
"""

from __future__ import annotations

import abc
from typing import Any

import keras
import tensorflow as tf

from cvpipe.answers.anomaly import UNCALIBRATED
from cvpipe.geometry.coreset import greedy_coreset


class PatchMemory(keras.layers.Layer, abc.ABC):
    """Base class of layers that map features, float [B, h, w, C], to distances from normal patches.

    Outputs are "distances", float32 [B, h, w], at least 0, and "threshold", float32 [B]: the score
    above which an image is anomalous, UNCALIBRATED before calibration. Subclasses add
    "image_distance", float32 [B], if an image's score isn't the largest distance of its patches.
    Distances are 0 until the first batch is stored.
    """

    def __init__(self, dtype: Any = "float32", trainable: bool = False, **settings: Any) -> None:
        # Distances in half precision would be too coarse to rank images.
        super().__init__(dtype=dtype, trainable=trainable, **settings)
        self.threshold = self._state("threshold", (), UNCALIBRATED)

    def call(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the distances of a batch."""
        thresholds = tf.repeat(self.threshold[tf.newaxis], tf.shape(features)[0])
        return {**self.measure(features), "threshold": thresholds}

    @abc.abstractmethod
    def measure(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return "distances", and "image_distance" if there is one."""

    @abc.abstractmethod
    def take_in(self, features: tf.Tensor, weight: tf.Tensor) -> None:
        """Store the patches of the images whose `weight`, float32 [B], isn't 0."""

    def _state(self, name: str, shape: tuple[int, ...], value: float = 0.0) -> keras.Variable:
        return self.add_weight(
            shape=shape,
            initializer=keras.initializers.Constant(value),
            trainable=False,
            dtype="float32",
            name=name,
        )


@keras.saving.register_keras_serializable("cvpipe")
class PatchBank(PatchMemory):
    """Distances from the nearest of the stored patches (Roth et al. 2022, PatchCore).

    The paper chooses a coreset of all patches at once. Here each step reduces the bank and the
    batch to the size of the bank, so memory doesn't grow with the number of images. The amount of
    computation is about the same: the only addition is that each step also chooses among the bank's
    patches.
    """

    def __init__(self, size: int, neighbors: int, **settings: Any) -> None:
        """Create a layer with K = `size` patches. `neighbors` is the number of patches of the bank
        that weight the distance of an image's farthest patch (equation 7); 1 for no weighting.
        """
        super().__init__(**settings)
        self.size, self.neighbors = size, neighbors

    def build(self, shape: Any) -> None:
        """Create the empty bank."""
        self.bank = self._state("bank", (self.size, int(shape[-1])))
        self.filled = self._state("filled", ())

    def measure(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the distances, computed an image at a time to save memory."""
        known = tf.range(self.size) < tf.cast(self.filled, tf.int32)
        # Center features on the bank's mean, because differences of large float32 numbers are
        # inexact.
        middle = tf.reduce_sum(self.bank, 0) / tf.maximum(self.filled, 1.0)
        bank = tf.where(known[:, tf.newaxis], self.bank - middle, 0.0)
        height, width = features.shape[1:3]

        def measure_one(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            patches = tf.reshape(image, [height * width, -1]) - middle
            nearest = tf.argmin(_squares(patches, bank, known), 1)
            closest = tf.gather(bank, nearest)
            distances = tf.where(known[0], _norm(patches - closest), 0.0)
            farthest = tf.argmax(distances)
            weight = self._weight(patches[farthest], closest[farthest], bank, known)
            return tf.reshape(distances, [height, width]), weight * distances[farthest]

        specs = (tf.TensorSpec([height, width]), tf.TensorSpec([]))
        distances, of_image = tf.map_fn(measure_one, features, fn_output_signature=specs)
        return {"distances": distances, "image_distance": of_image}

    def take_in(self, features: tf.Tensor, weight: tf.Tensor) -> None:
        """Reduce the bank and the patches of a batch to the size of the bank."""
        height, width, channels = features.shape[1:]
        patches = tf.reshape(features, [-1, channels])
        counted = tf.repeat(weight > 0, height * width)
        known = tf.range(self.size) < tf.cast(self.filled, tf.int32)
        both = tf.concat([self.bank, patches], 0)
        chosen, valid = greedy_coreset(both, tf.concat([known, counted], 0), self.size)
        self.bank.assign(tf.where(valid[:, tf.newaxis], tf.gather(both, chosen), 0.0))
        self.filled.assign(tf.reduce_sum(tf.cast(valid, tf.float32)))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that recreate the layer."""
        return {**super().get_config(), "size": self.size, "neighbors": self.neighbors}

    def _weight(
        self, patch: tf.Tensor, closest: tf.Tensor, bank: tf.Tensor, known: tf.Tensor
    ) -> tf.Tensor:
        """Return the weight of a patch's distance (equation 7): 1 − the closest patch's share in a
        softmax over the patch's distances from the closest patch and its neighbors; 1 if there are
        no neighbors.
        """
        if self.neighbors == 1:
            return tf.constant(1.0)
        around = tf.where(known, _norm(bank - closest), tf.float32.max)
        away, places = tf.math.top_k(-around, min(self.neighbors, self.size))
        distances = _norm(tf.gather(bank, places) - patch)
        shares = tf.nn.softmax(tf.where(away > -tf.float32.max, distances, tf.float32.min))
        return tf.where(self.filled > 1, 1.0 - shares[0], 1.0)


@keras.saving.register_keras_serializable("cvpipe")
class PatchGaussians(PatchMemory):
    """Mahalanobis distances from a Gaussian of each position (Defard et al. 2021, PaDiM).

    Each batch updates means and covariances by the formula of Chan et al. (1979). The result equals
    that of computing them from all images at once.
    """

    def __init__(self, channels: list[int], regularization: float, **settings: Any) -> None:
        """Create the layer. `channels` are the indices of the features used; `regularization` is
        added to the diagonal of every covariance.
        """
        super().__init__(**settings)
        self.channels, self.regularization = list(channels), regularization

    def build(self, shape: Any) -> None:
        """Create the empty statistics."""
        places, kept = int(shape[1]) * int(shape[2]), len(self.channels)
        self.images = self._state("images", ())
        self.mean = self._state("mean", (places, kept))
        self.scatter = self._state("scatter", (places, kept, kept))
        # The inverses of the covariances' Cholesky factors are stored, because serving would
        # otherwise factorize every covariance for every request.
        self.whitening = self._state("whitening", (places, kept, kept))

    def measure(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the distances."""
        deviation = self._kept(features) - self.mean
        white = tf.einsum("pcd,bpd->bpc", self.whitening, deviation)
        return {"distances": tf.reshape(_norm(white), [-1, *features.shape[1:3]])}

    def take_in(self, features: tf.Tensor, weight: tf.Tensor) -> None:
        """Update the means, the covariances and the factors of the covariances."""
        kept, count = self._kept(features), tf.reduce_sum(weight)
        mean = tf.einsum("b,bpc->pc", weight, kept) / tf.maximum(count, 1.0)
        deviation = kept - mean
        counted = weight[:, tf.newaxis, tf.newaxis] * deviation
        scatter = tf.einsum("bpc,bpd->pcd", counted, deviation)
        total = tf.maximum(self.images + count, 1.0)
        shift = mean - self.mean
        between = shift[:, :, tf.newaxis] * shift[:, tf.newaxis]
        self.scatter.assign_add(scatter + between * (self.images * count / total))
        self.mean.assign_add(shift * (count / total))
        self.images.assign_add(count)
        covariance = self.scatter / tf.maximum(self.images - 1.0, 1.0)
        identity = tf.eye(len(self.channels))
        factor = tf.linalg.cholesky(covariance + self.regularization * identity)
        whitening = tf.linalg.triangular_solve(factor, tf.broadcast_to(identity, tf.shape(factor)))
        self.whitening.assign(tf.where(self.images > 0, whitening, 0.0))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that recreate the layer."""
        count = {"channels": self.channels, "regularization": self.regularization}
        return {**super().get_config(), **count}

    def _kept(self, features: tf.Tensor) -> tf.Tensor:
        """Return the chosen features of every position, [B, h·w, channels]."""
        places = features.shape[1] * features.shape[2]
        chosen = tf.gather(features, self.channels, axis=-1)
        return tf.reshape(chosen, [-1, places, len(self.channels)])


def _squares(patches: tf.Tensor, bank: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
    """Return squared distances, [h·w, K], up to rounding; distances from unused entries are
    huge.
    """
    lengths = tf.where(known, tf.reduce_sum(tf.square(bank), 1), tf.float32.max)
    patch_lengths = tf.reduce_sum(tf.square(patches), 1, keepdims=True)
    return lengths - 2 * tf.matmul(patches, bank, transpose_b=True) + patch_lengths


def _norm(vectors: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.reduce_sum(tf.square(vectors), -1))
