"""Pictures of corruptions: curves of the error over the severity, and a corrupted example image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cvpipe.pictures.drawing import TITLE
from cvpipe.pictures.drawing.grids import image_table
from cvpipe.pictures.drawing.text import legend_name, literal

COLUMNS = 5


def error_curves(models: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> Figure:
    """Draw the error over the severity, with intervals: a panel for each corruption, with a line
    for each model. `models` are results of `summarize`, each with a "source".
    """
    columns = min(COLUMNS, len(kinds))
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(2.2 * columns + 0.6, 1.9 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, kind in zip(panels, kinds, strict=False):
        for n, model in enumerate(models):
            points = [{**model["clean"], "severity": 0}, *model["corruptions"][kind]["severities"]]
            where = [point["severity"] for point in points]
            low, high = zip(*(point["interval"] for point in points), strict=True)
            label = legend_name(model["source"]) if kind == kinds[0] else None
            color = f"C{n % 10}"
            axes.fill_between(where, low, high, color=color, alpha=0.2)
            errors = [point["error"] for point in points]
            axes.plot(where, errors, marker=".", color=color, label=label)
        axes.set_title(literal(kind.replace("_", " ")), fontsize=TITLE)
        axes.set_ylim(0, 1.03)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in panels[len(kinds) :]:
        axes.axis("off")
    figure.supxlabel("severity (0: clean)", fontsize=TITLE)
    figure.supylabel("error", fontsize=TITLE)
    figure.legend(loc="outside upper left", fontsize=TITLE)
    return figure


def draw_corruptions(
    image: np.ndarray, drawn: Mapping[str, Sequence[np.ndarray]], severities: Sequence[int]
) -> Figure:
    """Draw a corrupted image: a row for each corruption, a column for each severity.

    Args:
        image: the clean image, uint8 [H, W, C].
        drawn: the corrupted images by corruption, one for each of `severities`.
        severities: levels of corruption.
    """
    rows = [np.stack([image, *images]) for images in drawn.values()]
    names = [kind.replace("_", " ") for kind in drawn]
    return image_table(rows, names, ["clean", *(f"severity {own}" for own in severities)])
