"""Initializers of kernels."""

from __future__ import annotations

from typing import Literal, NamedTuple

import keras


class Initializer(NamedTuple):
    """Settings of a network's kernel initializers. Biases start at 0."""

    kind: Literal["he", "xavier", "gaussian", "constant"] = "he"
    """he: a truncated normal of variance 2 / fan-in (He et al. 2015, equation 10). xavier: uniform,
    of variance 2 / (fan-in + fan-out) (Glorot and Bengio 2010, equation 16). gaussian: a normal.
    constant: all the same, to see it fail.
    """
    value: float = 0.01
    """Standard deviation for gaussian, or the value for constant."""
    gain: float = 1.0
    """For he: multiplies the standard deviation."""

    def kernel(self) -> keras.initializers.Initializer:
        """A new one for a dense layer or a convolution: one that is used twice draws the same
        numbers twice.
        """
        match self.kind:
            case "he":
                return keras.initializers.VarianceScaling(
                    2 * self.gain**2, mode="fan_in", distribution="truncated_normal"
                )
            case "xavier":
                return keras.initializers.GlorotUniform()
            case "gaussian":
                return keras.initializers.RandomNormal(stddev=self.value)
            case "constant":
                return keras.initializers.Constant(self.value)

    def depthwise_kernel(self) -> keras.initializers.Initializer:
        """A new one for a convolution with one filter per channel, whose fan-in and fan-out are
        both kernel².
        """
        # Keras calls kernel² the fan-out of a depthwise kernel; its fan-in multiplies by the
        # channels.
        match self.kind:
            case "he":
                return keras.initializers.VarianceScaling(
                    2 * self.gain**2, mode="fan_out", distribution="truncated_normal"
                )
            case "xavier":
                return keras.initializers.VarianceScaling(
                    1.0, mode="fan_out", distribution="uniform"
                )
            case _:
                return self.kernel()

    def for_tanh(self) -> Initializer:
        """The same for layers with tanh: xavier in the place of he, which makes up for what a
        rectifier cuts off.
        """
        return self._replace(kind="xavier") if self.kind == "he" else self
