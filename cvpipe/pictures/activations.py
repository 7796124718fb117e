"""Histograms of a network's activations, layer by layer (Glorot and Bengio 2010, figure 6)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvpipe.pictures.drawing import LABEL, RIGHT, TITLE
from cvpipe.pictures.drawing.text import literal, wrap_title

BINS = 40
WIDTH, HEIGHT = 1.2, 1.3
"""Size of a histogram in inches."""


def draw_activations(cases: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Draw a row of histograms for each case.

    Args:
        cases: activations by case and name of the layer. The histograms of a case have the same
            range of values, and show the standard deviation as their title.
    """
    columns = max(map(len, cases.values()))
    size = (WIDTH * columns + 1, HEIGHT * len(cases) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    for row, (title, layers) in zip(
        figure.subplots(len(cases), columns, squeeze=False), cases.items(), strict=True
    ):
        ends = _ends(layers)
        for number, (axes, (name, values)) in enumerate(zip(row, layers.items(), strict=False)):
            _draw(axes, values, ends)
            layer = f"{literal(name)}\n" if row[0].get_subplotspec().is_first_row() else ""
            axes.set_title(f"{layer}std {values.std():.2g}", fontsize=LABEL)
            if number == 0:
                axes.set_ylabel(literal(wrap_title(title, HEIGHT)), fontsize=TITLE)
        for axes in row[len(layers) :]:
            axes.axis("off")
    return figure


def _ends(layers: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Return a range without the smallest and the largest thousandth of each layer's values."""
    shares = [np.quantile(values, [0.001, 0.999]) for values in layers.values()]
    low, high = min(own[0] for own in shares), max(own[1] for own in shares)
    return (float(low), float(high)) if low < high else (float(low) - 1, float(low) + 1)


def _draw(axes: Axes, values: np.ndarray, ends: tuple[float, float]) -> None:
    axes.hist(np.clip(values, *ends).ravel(), BINS, range=ends, color=RIGHT)
    axes.set(yticks=[], xticks=ends)
    axes.set_xticklabels([f"{end:.1g}" for end in ends], fontsize=LABEL)
    low, high = axes.get_xticklabels()
    low.set_horizontalalignment("left")
    high.set_horizontalalignment("right")
