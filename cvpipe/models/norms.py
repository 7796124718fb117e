"""Normalization of features after a convolution. Feature maps are [B, H, W, C]."""

from __future__ import annotations

from typing import Literal, NamedTuple

import keras

from cvpipe.errors import ConfigError
from cvpipe.models.batch_norm import FusedBatchNormalization


class Norm(NamedTuple):
    """Settings of every norm in a network. A call applies a norm layer to features."""

    kind: Literal["batch", "layer", "instance", "group", "none"] = "batch"
    """Axes of mean and variance (Wu and He 2018, figure 2). batch: B, H, W (Ioffe and Szegedy
    2015). layer: H, W, C. instance: H, W. group: H, W and the channels of a group. Each has a scale
    and a shift per channel.
    """
    momentum: float = 0.9
    """For batch: decay of the moving statistics per training step."""
    epsilon: float = 1e-5
    """Added to the variance."""
    synchronized: bool = False
    """For batch: statistics of the global batch instead of each replica's part."""
    groups: int = 32
    """For group: largest number of groups."""

    def __call__(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        """Normalize `x` by a layer called `name`; return `x` itself for none.

        Statistics are float32 under every dtype policy.

        Raises:
            ConfigError: statistics would cover a single value, so the norm would always return 0.
        """
        if self.kind == "none":
            return x
        if self.kind == "batch":
            return FusedBatchNormalization(
                momentum=self.momentum,
                epsilon=self.epsilon,
                synchronized=self.synchronized,
                name=name,
            )(x)
        rows, columns, channels = x.shape[1:]
        groups = self.groups_of(channels)
        if rows * columns * channels == groups:
            raise ConfigError(
                f"model.norm: {self.kind} turns {name}'s input into zeros, because it has"
                f" {rows}×{columns} pixels with {channels // groups} channel to normalize together;"
                " use batch or layer, a larger prepare.size, or fewer model.norm_groups"
            )
        return keras.layers.GroupNormalization(groups, epsilon=self.epsilon, name=name)(x)

    def groups_of(self, channels: int) -> int:
        """Return the number of groups for a number of channels: for group, the largest divisor not
        above `groups`.
        """
        if self.kind == "layer":
            return 1
        if self.kind == "instance":
            return channels
        return max(
            divisor
            for divisor in range(1, min(self.groups, channels) + 1)
            if channels % divisor == 0
        )
