"""Layer outputs at initialization: signal strength and dead or identical units.

Source: CS231n, Weight initialization.

Dimensions: b examples, C channels or units of a layer.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cvpipe.losses.kernels import is_kernel
from cvpipe.training.sanity.case import SanityCase
from cvpipe.training.sanity.finding import Finding
from cvpipe.training.sanity.plots import line_plot

# Inputs have a standard deviation of about 1. Outside these bounds, the signal vanishes or
# explodes.
LOWEST_STD, HIGHEST_STD = 1e-3, 1e3
# According to CS231n, 40% dead units in training mean that the learning rate is too high. An
# untrained network should have fewer dead units.
MOST_DEAD = 0.4


class Statistics(NamedTuple):
    """Statistics of one layer's outputs on a batch."""

    mean: float
    std: float
    zeros: float
    """Fraction of zeros, about one half after a ReLU."""
    dead: float
    """Fraction of channels that are 0 for all examples at all positions."""
    alike: bool
    """True if the layer has several channels and all are equal."""


def activations(case: SanityCase) -> Finding:
    """Check the outputs of every layer with a kernel and of every activation."""
    measured = statistics(case)
    outputs = set(case.model.output_names)
    # Exclude output layers, because their outputs should be small at first.
    inner = {name: stats for name, stats in measured.items() if name not in outputs}
    stds = [stats.std for stats in inner.values()]
    says = "there is no layer before the scores"
    if inner:
        says = (
            f"standard deviations of {len(inner)} layers are between {min(stds):.2g} and"
            f" {max(stds):.2g}; at most {max(stats.dead for stats in inner.values()):.0%} of a"
            " layer's channels are dead"
        )
    advice = _advice(inner)
    rows = [
        (
            name,
            f"{stats.mean:.2e}",
            f"{stats.std:.2e}",
            f"{stats.zeros:.0%}",
            f"{stats.dead:.0%}",
            "yes" if stats.alike else "",
        )
        for name, stats in measured.items()
    ]
    table = (
        ("layer", "mean", "standard deviation", "zeros", "dead channels", "channels alike"),
        *rows,
    )
    lines = {
        key: np.array([getattr(stats, key) for stats in measured.values()])
        for key in ("mean", "std", "zeros", "dead")
    }
    figure = line_plot(
        np.arange(len(measured)), lines, "layer, from the input to the output", "value", log_y=False
    )
    numbers = {"layers": {name: stats._asdict() for name, stats in measured.items()}}
    return Finding("activations", not advice, says, advice, numbers, table, figure)


def statistics(case: SanityCase) -> dict[str, Statistics]:
    """Return statistics of the outputs of activations and of layers with kernels, on the batch, by
    layer name.
    """
    model = case.model
    kinds = (keras.layers.Activation, keras.layers.ReLU)
    shown = [
        layer
        for layer in model.layers
        if isinstance(layer, kinds) or any(map(is_kernel, layer.weights))
    ]
    inside = keras.Model(model.input, {layer.name: layer.output for layer in shown})

    @tf.function
    @tf.autograph.experimental.do_not_convert
    def measure() -> dict[str, list[tf.Tensor]]:
        # Measure all layers in one graph, so that each output is freed as soon as it is measured.
        outputs = inside(case.batch["image"], training=True)
        return {
            name: _measure(tf.cast(output, tf.float32))
            for name, output in outputs.items()
            if isinstance(output, tf.Tensor)
        }

    found = measure()
    values = {
        name: [value.numpy().item() for value in found[name]]
        for name in (layer.name for layer in shown)
        if name in found
    }
    return {name: Statistics(*stats) for name, stats in values.items()}


def _measure(output: tf.Tensor) -> list[tf.Tensor]:
    """Return the values of `Statistics` for an output [b, …, C]."""
    zero = tf.equal(output, 0)
    dead = tf.reduce_all(zero, axis=list(range(len(output.shape) - 1)))
    alike = tf.reduce_all(tf.equal(output, output[..., :1])) & (output.shape[-1] > 1)
    shares = [tf.reduce_mean(tf.cast(values, tf.float32)) for values in (zero, dead)]
    return [tf.reduce_mean(output), tf.math.reduce_std(output), *shares, alike]


def _advice(layers: dict[str, Statistics]) -> str:
    for name, stats in layers.items():
        if not np.isfinite(stats.std):
            return (
                f"outputs of {name} are not finite: check the initial weights, and prepare.mean and"
                " prepare.std"
            )
        if stats.dead > MOST_DEAD:
            return (
                f"{stats.dead:.0%} of the channels of {name} are 0 for every image: check"
                " model.initializer and the images"
            )
        if stats.alike:
            return (
                f"All channels of {name} are equal and stay equal in training: choose a"
                " model.initializer with random weights"
            )
        if stats.std < LOWEST_STD:
            return (
                f"The signal vanishes at {name} (standard deviation {stats.std:.0e}): use larger"
                " initial weights or a model.norm"
            )
        if stats.std > HIGHEST_STD:
            return (
                f"The signal explodes at {name} (standard deviation {stats.std:.0e}): use smaller"
                " initial weights or a model.norm"
            )
    return ""
