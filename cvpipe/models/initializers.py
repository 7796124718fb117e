"""Initializers of kernels."""

from __future__ import annotations

from typing import Literal, NamedTuple

import keras


class Initializer(NamedTuple):
    """Settings of a network's kernel initializers. Biases start at 0."""

    kind: Literal["he", "xavier", "gaussian", "constant"] = "he"
    """he: a truncated normal of variance 2 / fan-in (He et al. 2015, equation 10). xavier: uniform,
    of variance 2 / (fan-in + fan-out) (Glorot and Bengio 2010, equation 16). gaussian: a normal.
    constant: equal weights, to demonstrate that they fail.
    """
    value: float = 0.01
    """Standard deviation for gaussian, or the value for constant."""
    gain: float = 1.0
    """For he: multiplies the standard deviation."""

    def kernel(self) -> keras.initializers.Initializer:
        """Return a new initializer for a dense layer or a convolution. If layers shared an
        initializer, they would get the same random numbers.
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
        """Return a new initializer for a depthwise convolution, whose fan-in and fan-out are both
        kernel².
        """
        # Keras uses kernel² as the fan-out of a depthwise kernel, and kernel² × channels as its
        # fan-in.
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
        """Return the settings for layers with tanh: xavier instead of he, whose factor 2
        compensates for rectifiers.
        """
        return self._replace(kind="xavier") if self.kind == "he" else self
