"""Normalization of features after a convolution. Feature maps are [B, H, W, C]."""

from __future__ import annotations

from typing import Literal, NamedTuple

import keras

from cvpipe.errors import ConfigError
from cvpipe.models.batch_norm import FusedBatchNormalization


class Norm(NamedTuple):
    """Settings of every norm in a network; calling it with features and a name puts one layer on
    them.
    """

    kind: Literal["batch", "layer", "instance", "group", "none"] = "batch"
    """Over what mean and variance are taken (Wu and He 2018, figure 2). batch: B, H, W (Ioffe and
    Szegedy 2015). layer: H, W, C. instance: H, W. group: H, W and the channels of a group. Each has
    a scale and a shift per channel.
    """
    momentum: float = 0.9
    """For batch: share of the moving statistics that a training step keeps."""
    epsilon: float = 1e-5
    """Added to the variance."""
    synchronized: bool = False
    """For batch: take the statistics of the global batch, not of each replica's part."""
    groups: int = 32
    """For group: into how many groups channels are divided, at most."""

    def __call__(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        """`x`, normalized by a layer called `name`; `x` itself for none.

        Statistics are float32 under every dtype policy.

        Raises:
            ConfigError: an image's features would be normalized one by one, to nothing.
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
                f"model.norm: {self.kind} leaves nothing of {name}'s input, which is"
                f" {rows}×{columns} pixels with {channels // groups} channel to normalize together;"
                " use batch or layer, a larger prepare.size, or fewer model.norm_groups"
            )
        return keras.layers.GroupNormalization(groups, epsilon=self.epsilon, name=name)(x)

    def groups_of(self, channels: int) -> int:
        """Into how many groups so many channels are divided: for group the largest divisor that is
        at most `groups`.
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
