"""Fractional max-pooling (Graham 2014): pooling by a factor below 2, over random regions in every
training step.

Regions have lengths of 1 or 2 along each axis. Dimensions: B examples; H, W, C of a feature map; N
pixels and n regions along an axis.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cvpipe.errors import ConfigError
from cvpipe.models.blocks import Style, scale_channels
from cvpipe.models.random_layers import next_seed

SMALLEST = 30


def random_edges(pixels: int, regions: int, seed: tf.Tensor) -> tf.Tensor:
    """Return edges of regions with lengths 1 and 2 in random order (section 2.2: "random").

    Args:
        pixels: N, with n ≤ N ≤ 2n.
        regions: n.
        seed: int32 [2].

    Returns:
        int32 [n + 1], from 0 to N.
    """
    lengths = tf.constant([2] * (pixels - regions) + [1] * (2 * regions - pixels))
    order = tf.argsort(tf.random.stateless_uniform([regions], seed))
    return tf.concat([[0], tf.cumsum(tf.gather(lengths, order))], axis=0)


def even_edges(pixels: int, regions: int) -> np.ndarray:
    """Return edges a_i = ceiling(α (i + u)), counted from a_0 (section 2.2: "pseudorandom"), with
    α = N / n and u = 1/2.

    Arguments and result are those of `random_edges`, without a seed.
    """
    # Integers avoid rounding errors that would shift an edge: α (i + 1/2) is N (2i + 1) / 2n.
    edges = -(-pixels * (2 * np.arange(regions + 1) + 1) // (2 * regions))
    return (edges - edges[0]).astype(np.int32)


def pool_regions(x: tf.Tensor, rows: Any, columns: Any) -> tf.Tensor:
    """Return the maximum over each region of `x`, [B, H, W, C] -> [B, n, m, C].

    Args:
        rows: int32 [n + 1], edges of the regions from 0 to H, with distances of 1 or 2.
        columns: int32 [m + 1], likewise from 0 to W.
    """
    for axis, edges in ((1, rows), (2, columns)):
        # A region has one or two pixels, so its maximum is that of its first and its last pixel.
        x = tf.maximum(tf.gather(x, edges[:-1], axis=axis), tf.gather(x, edges[1:] - 1, axis=axis))
    return x


@keras.saving.register_keras_serializable("cvpipe")
class FractionalMaxPooling(keras.layers.Layer):
    """Shrinks height and width by about `ratio`: [B, H, W, C] -> [B, round(H / ratio), round(W /
    ratio), C].

    All examples of a training step (on one replica) share their regions. Evaluation uses fixed,
    evenly spaced regions; the paper averages over several random choices of regions.
    """

    def __init__(
        self, ratio: float, name: str | None = None, overlapping: bool = True, **settings: Any
    ) -> None:
        """Create the layer with a `ratio` in (1, 2). If `overlapping`, neighboring regions share
        the pixels at their edges.
        """
        super().__init__(name=name, **settings)
        self.ratio = ratio
        self.overlapping = overlapping
        self.seed_generator = keras.random.SeedGenerator(name=self.name)

    def call(self, x: Any, training: bool = False) -> Any:
        """Pool `x`, float [B, H, W, C]; regions are random in training."""
        regions = [round(pixels / self.ratio) for pixels in x.shape[1:3]]
        if self.overlapping:
            # Pooling overlapping regions is the same as pooling disjoint regions of the maxima of
            # neighboring pixels.
            x = tf.maximum(x[:, :-1], x[:, 1:])
            x = tf.maximum(x[:, :, :-1], x[:, :, 1:])
        sizes = list(zip(x.shape[1:3], regions, strict=True))
        if training:
            return pool_regions(
                x,
                *(
                    random_edges(pixels, count, next_seed(self.seed_generator))
                    for pixels, count in sizes
                ),
            )
        return pool_regions(x, *(even_edges(pixels, count) for pixels, count in sizes))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that recreate the layer."""
        return {**super().get_config(), "ratio": self.ratio, "overlapping": self.overlapping}


def fmp6_sqrt2(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build the paper's network for MNIST, (32nC2–FMP√2)6–C2–C1–output (section 4.1), without
    dropout between its layers.

    This notation means six pairs of a 2×2 convolution to 32n maps, n from 1 to 6, and overlapping
    fractional max-pooling by √2, followed by a 2×2 and a 1×1 convolution to 224 and 256 maps. The
    convolutions aren't padded, and a leaky ReLU of slope 1/3 follows each.

    Args:
        image: [B, H, W, C], H and W at least 30; published with 36, at which the last maps are
            single pixels.
        width: multiplies the maps of every convolution.
        style: kernel initializers; the network has no norm.

    Returns:
        {1, 2, 4, 8: maps}, by the product of the preceding poolings.

    Raises:
        ConfigError: the image is smaller than 30×30.
    """
    rows, columns = image.shape[1:3]
    if min(rows, columns) < SMALLEST:
        raise ConfigError(
            f"fmp6_sqrt2 needs images of at least {SMALLEST}×{SMALLEST} pixels and gets"
            f" {rows}×{columns}: set prepare.size to [36, 36] or choose another model.backbone"
        )
    x, features = image, {}
    for level in range(1, 7):
        x = _convolve(x, 32 * level, 2, width, style, f"level{level}")
        features[2 ** (level // 2)] = x
        x = FractionalMaxPooling(sqrt(2), name=f"level{level}_pool")(x)
    x = _convolve(x, 32 * 7, 2, width, style, "level7")
    features[8] = _convolve(x, 32 * 8, 1, width, style, "level8")
    return features


def _convolve(
    x: keras.KerasTensor, maps: int, kernel: int, width: float, style: Style, name: str
) -> keras.KerasTensor:
    initializer = style.initializer.kernel()
    x = keras.layers.Conv2D(
        scale_channels(maps, width), kernel, kernel_initializer=initializer, name=name
    )(x)
    # Not LeakyReLU: TensorFlow's graph optimizer fails on its gradient and prints errors.
    return keras.ops.maximum(x, x / 3)
