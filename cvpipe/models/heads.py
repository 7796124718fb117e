"""Heads: what turns a backbone's features into raw answers."""

from __future__ import annotations

from typing import Any

import keras


class Dropout(keras.layers.Layer):
    """Sets a share of its input to zero in training and scales the rest up (Srivastava et al. 2014).

    keras.layers.Dropout numbers its random state by what the process has built before (`seed_generator_3`): the path
    would not be the same where a checkpoint is restored. This one is named after the layer.
    """

    def __init__(self, rate: float, name: str) -> None:
        super().__init__(name=name)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(name=name)

    def call(self, x: Any, training: bool = False) -> Any:
        return keras.random.dropout(x, self.rate, seed=self.seed_generator) if training else x


def classifier(
    features: dict[int, keras.KerasTensor], classes: int, *, dropout: float, hidden: tuple[int, ...] = ()
) -> keras.KerasTensor:
    """Global average of the coarsest map, fully connected layers, logits.

    Args:
        features: {stride: [B, H, W, C]}.
        classes: number of logits.
        dropout: share of what enters the last layer that is dropped in training; 0 for none.
        hidden: units of the tanh layers before the last one.

    Returns:
        logits [B, classes], float32 under every dtype policy.
    """
    x = keras.layers.GlobalAveragePooling2D(name="pool")(features[max(features)])
    for index, units in enumerate(hidden):
        x = keras.layers.Dense(units, activation="tanh", name=f"hidden{index + 1}")(x)
    if dropout > 0:
        x = Dropout(dropout, name="dropout")(x)
    # Small weights, so that every class starts out about as likely (Goyal et al. 2017, section 5.1).
    small = keras.initializers.RandomNormal(stddev=0.01)
    return keras.layers.Dense(classes, kernel_initializer=small, dtype="float32", name="logits")(x)
