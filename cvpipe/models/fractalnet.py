"""FractalNet (Larsson et al. 2017) with drop-path: joins, fractal blocks, and the network.

Dimensions: B images, H, W, C of a map, K columns.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from cvpipe.models.blocks import Style, conv_norm, scale_channels
from cvpipe.models.pooling import MaxPooling2D
from cvpipe.models.random_layers import Dropout, next_seed

GLOBAL_DROP = 0.5
"""Share of images for which global drop-path keeps a single column (section 4)."""
LOCAL_DROP = 0.15
"""Share of a join's inputs that local drop-path drops (section 4)."""
DROPOUT = (0.0, 0.1, 0.2, 0.3, 0.4)
"""Share of each block's output that is dropped in training (section 4)."""


@keras.saving.register_keras_serializable("cvpipe")
class PathChoice(keras.layers.Layer):
    """Draws the columns to use for each image in training (section 3, figure 2).

    [B, H, W, C] -> float32 [B, K]: 1 for the columns in use, else 0. In training, a share `rate` of
    the images use one random column (global drop-path) and the others all columns. In evaluation,
    all columns are used.
    """

    def __init__(
        self, columns: int, rate: float = GLOBAL_DROP, name: str | None = None, **settings: Any
    ) -> None:
        super().__init__(name=name, **settings)
        self.columns, self.rate = columns, rate
        self.seed_generator = keras.random.SeedGenerator(name=self.name)

    def call(self, image: Any, training: bool = False) -> Any:
        """Return 1 for columns in use, else 0."""
        count = tf.shape(image)[0]
        if not training:
            return tf.ones([count, self.columns])
        seed = next_seed(self.seed_generator)
        draws = tf.random.stateless_uniform([count, 2], seed)
        column = tf.cast(draws[:, 0] * self.columns, tf.int32)
        chosen = tf.one_hot(tf.minimum(column, self.columns - 1), self.columns)
        return tf.where(draws[:, 1:] < self.rate, chosen, tf.ones_like(chosen))

    def compute_output_spec(self, image: Any, training: bool = False) -> keras.KerasTensor:
        """Return the output shape [B, K]."""
        return keras.KerasTensor((image.shape[0], self.columns), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that recreate the layer."""
        return {**super().get_config(), "columns": self.columns, "rate": self.rate}


@keras.saving.register_keras_serializable("cvpipe")
class Join(keras.layers.Layer):
    """Mean of the outputs of the columns that drop-path keeps.

    The inputs are the output of `PathChoice`, and a map [B, H, W, C] for each of the last columns.
    The output is [B, H, W, C]. In training, for images that use all columns, each map is dropped
    with probability `rate`, but never all maps (local drop-path). If `PathChoice` chose none of
    these columns, the output is the mean of all maps, which later joins don't use.
    """

    def __init__(self, rate: float = LOCAL_DROP, name: str | None = None, **settings: Any) -> None:
        super().__init__(name=name, **settings)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(name=self.name)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return the mean of the kept maps."""
        choice, *maps = inputs
        count = len(maps)
        if not training:
            return sum(maps) / count
        draws = tf.random.stateless_uniform(
            [tf.shape(choice)[0], count], next_seed(self.seed_generator)
        )
        # The map with the highest draw is always kept.
        stays = (draws >= self.rate) | (draws == tf.reduce_max(draws, axis=1, keepdims=True))
        chosen = choice[:, -count:]
        is_global = tf.reduce_min(choice, axis=1, keepdims=True) < 1
        kept = tf.where(is_global, chosen, tf.cast(stays, chosen.dtype))
        kept = tf.where(tf.reduce_sum(kept, axis=1, keepdims=True) > 0, kept, tf.ones_like(kept))
        shares = tf.cast(kept / tf.reduce_sum(kept, axis=1, keepdims=True), maps[0].dtype)
        return sum(x * shares[:, index, None, None, None] for index, x in enumerate(maps))

    def compute_output_spec(self, inputs: Any, training: bool = False) -> keras.KerasTensor:
        """Return the shape of one of the maps."""
        return keras.KerasTensor(inputs[1].shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that recreate the layer."""
        return {**super().get_config(), "rate": self.rate}


def fractal_block(
    x: keras.KerasTensor,
    choice: keras.KerasTensor,
    filters: int,
    columns: int,
    *,
    style: Style,
    name: str,
) -> keras.KerasTensor:
    """Apply the expansion rule `columns` - 1 times (figure 1): [B, H, W, C] -> [B, H, W, filters].

    Column k of K, from 1, has 2^(k-1) convolutions of 3×3. After a join, each of the joined columns
    continues from their mean.
    """
    current = [x] * columns
    last = 2 ** (columns - 1)
    for depth in range(1, last + 1):
        # Column k has one convolution per 2^(K-k) steps.
        due = [k for k in range(columns) if depth % 2 ** (columns - 1 - k) == 0]
        for k in due:
            current[k] = conv_norm(
                current[k],
                filters,
                3,
                1,
                style=style,
                activation="relu",
                name=f"{name}_column{k + 1}_conv{depth // 2 ** (columns - 1 - k)}",
            )
        if len(due) > 1:
            join = Join(local_drop(style), name=f"{name}_join{depth}")
            joined = join([choice, *(current[k] for k in due)])
            for k in due:
                current[k] = joined
    return current[-1]


def local_drop(style: Style) -> float:
    """Return the share of a join's inputs that local drop-path drops."""
    return LOCAL_DROP if style.drop_path is None else style.drop_path


def fractalnet20(
    image: keras.KerasTensor, *, width: float, style: Style
) -> dict[int, keras.KerasTensor]:
    """Build section 4's network for CIFAR: five blocks of three columns, each before a 2×2 pooling.

    With the channels of section 4 (64, 128, 256, 512, 512) it has 33,724,618 trainable parameters,
    or 33,734,922 with biases before the norms. The paper states 38.6 million.

    Args:
        image: [B, H, W, C].
        width: multiplies the channels.
        style: settings of the layers.

    Returns:
        {1, 2, 4, 8, 16: [B, H / stride, W / stride, 64, 128, 256, 512, 512 × width]}, the outputs
        of the blocks, and 32: the last pooling.
    """
    columns = 3
    rate = GLOBAL_DROP if local_drop(style) > 0 else 0.0
    choice = PathChoice(columns, rate, dtype="float32", name="path")(image)
    x, features = image, {}
    for index, channels in enumerate((64, 128, 256, 512, 512)):
        name = f"stage{index + 1}"
        filters = scale_channels(channels, width)
        x = fractal_block(x, choice, filters, columns, style=style, name=name)
        features[2**index] = x
        x = MaxPooling2D(2, padding="same", name=f"{name}_pool")(x)
        if DROPOUT[index]:
            x = Dropout(DROPOUT[index], name=f"{name}_dropout")(x)
    features[32] = x
    return features
