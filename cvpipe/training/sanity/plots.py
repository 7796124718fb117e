"""Plots of the sanity report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from cvpipe.pictures.drawing.text import literal


def line_plot(
    x: np.ndarray,
    lines: Mapping[str, np.ndarray],
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    marks: Mapping[str, float] = {},
    highest_y: float | None = None,
) -> Figure:
    """Plot lines [n] over x [n].

    Args:
        x: positions on the x axis.
        lines: values of each line by name.
        x_label: label of the x axis.
        y_label: label of the y axis.
        log_x: True for a logarithmic x axis.
        log_y: True for a logarithmic y axis.
        marks: positions on the x axis to mark, by name.
        highest_y: upper end of the y axis.
    """
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, y in lines.items():
        axes.plot(x, y, marker="." if len(x) < 100 else None, linewidth=0.8, label=literal(name))
    for number, (name, place) in enumerate(marks.items()):
        label = literal(f"{name}: {place:.1g}")
        axes.axvline(place, linestyle="--", color=f"C{len(lines) + number}", label=label)
    if log_x:
        axes.set_xscale("log")
    if log_y and any((np.asarray(y) > 0).any() for y in lines.values()):
        axes.set_yscale("log")
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_ylim(top=None if highest_y is None else min(highest_y, axes.get_ylim()[1]))
    if len(lines) + len(marks) > 1:
        axes.legend()
    return figure
