"""Grids and tables of images, with titles, boxes or a legend of classes.

Dimensions: N images, H, W, C their size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cvpipe.geometry.masks import palette
from cvpipe.pictures.drawing import LABEL, PANEL, RIGHT, TITLE, WRONG
from cvpipe.pictures.drawing.text import legend_name, literal, wrap_title


def image_grid(
    images: np.ndarray, titles: Sequence[str], right: Sequence[bool] | None = None, columns: int = 6
) -> Figure:
    """Draw images uint8 [N, H, W, C] with a title each: blue if `right`, else orange."""
    columns = max(min(columns, len(images)), 1)
    rows = max(-(-len(images) // columns), 1)
    aspect = images.shape[1] / images.shape[2] if len(images) else 1.0
    wrapped = [wrap_title(title, PANEL) for title in titles]
    lines = max((title.count("\n") + 1 for title in wrapped), default=1)
    figure = Figure(
        figsize=(PANEL * columns, (PANEL * min(max(aspect, 0.2), 5) + 0.19 * lines + 0.2) * rows),
        layout="constrained",
    )
    for n, axes in enumerate(_panels(figure, rows, columns).flat):
        if n < len(images):
            _show(axes, images[n])
            color = "black" if right is None else RIGHT if right[n] else WRONG
            axes.set_title(literal(wrapped[n]), fontsize=TITLE, color=color)
    return figure


class Marks(NamedTuple):
    """Boxes to draw on an image."""

    boxes: np.ndarray
    """float [n, 4]: ymin, xmin, ymax, xmax, pixels."""
    titles: Sequence[str]
    color: str


def boxes_grid(
    images: np.ndarray,
    marks: Sequence[Sequence[Marks]],
    columns: int = 4,
    legend: Mapping[str, str] | None = None,
) -> Figure:
    """Draw images uint8 [N, H, W, C], each with its boxes and their titles. Later marks are drawn
    over earlier ones.

    Args:
        legend: colors by their meaning; None for no legend.
    """
    columns = max(min(columns, len(images)), 1)
    rows = max(-(-len(images) // columns), 1)
    aspect = images.shape[1] / images.shape[2] if len(images) else 1.0
    figure = Figure(
        figsize=(3 * columns, 3 * min(max(aspect, 0.2), 5) * rows), layout="constrained"
    )
    for n, axes in enumerate(_panels(figure, rows, columns).flat):
        if n >= len(images):
            continue
        _show(axes, images[n])
        for boxes, titles, color in marks[n]:
            for (top, left, bottom, right), title in zip(boxes, titles, strict=True):
                # Pixel i covers i − 0.5 … i + 0.5 here.
                corner = (left - 0.5, top - 0.5)
                axes.add_patch(
                    Rectangle(
                        corner,
                        right - left,
                        bottom - top,
                        fill=False,
                        edgecolor=color,
                        linewidth=1.2,
                    )
                )
                axes.text(
                    *corner,
                    literal(title),
                    color="white",
                    fontsize=LABEL,
                    va="bottom",
                    clip_on=True,
                    bbox={"facecolor": color, "edgecolor": "none", "pad": 0.6},
                )
    if legend:
        handles = [
            Rectangle((0, 0), 1, 1, fill=False, edgecolor=color, linewidth=1.5, label=meaning)
            for meaning, color in legend.items()
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=len(legend), fontsize=TITLE)
    return figure


def masks_table(
    images: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str],
    classes: Sequence[str],
    most: int = 8,
) -> Figure:
    """Draw rows of images, uint8 [H, W, C] each, under the titles in `columns`, with a legend of
    the first 20 classes. At most `most` rows are drawn.
    """
    shown = images[:most]
    figure = Figure(
        figsize=(2.2 * len(columns) + 1.6, 2.2 * max(len(shown), 1) + 0.3), layout="constrained"
    )
    grid = _panels(figure, max(len(shown), 1), len(columns))
    for row, own in zip(grid, shown, strict=False):
        for axes, image in zip(row, own, strict=True):
            _show(axes, image)
    for axes, title in zip(grid[0], columns, strict=True):
        axes.set_title(title, fontsize=TITLE)
    patches = [
        Rectangle((0, 0), 1, 1, color=color / 255, label=legend_name(name))
        for name, color in zip(classes[:20], palette(), strict=False)
    ]
    figure.legend(handles=patches, loc="outside right upper", fontsize=TITLE)
    return figure


def image_table(
    images: Sequence[np.ndarray], rows: Sequence[str], columns: Sequence[str]
) -> Figure:
    """Draw a table of images: a row, uint8 [n, H, W, C], for each of `rows`, with n columns named
    by `columns`.
    """
    aspect = images[0].shape[1] / images[0].shape[2]
    height = min(max(aspect, 0.2), 5)
    figure = Figure(
        figsize=(PANEL * len(columns) + 0.5, (PANEL * height + 0.1) * len(rows) + 0.3),
        layout="constrained",
    )
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, own in enumerate(images):
        for column, axes in enumerate(grid[row]):
            axes.set(xticks=[], yticks=[])
            _show(axes, own[column])
        grid[row, 0].set_ylabel(literal(rows[row]), fontsize=TITLE)
    for axes, title in zip(grid[0], columns, strict=True):
        axes.set_title(title, fontsize=TITLE)
    return figure


def _panels(figure: Figure, rows: int, columns: int) -> np.ndarray:
    """Return empty axes without frames, an object array [rows, columns]."""
    # Create axes without ticks, because matplotlib reserves room for ticks even if axes are off.
    panels = figure.subplots(rows, columns, squeeze=False, subplot_kw={"xticks": (), "yticks": ()})
    for axes in panels.flat:
        axes.axis("off")
    return panels


def _show(axes: Axes, image: np.ndarray) -> None:
    """Show an image uint8 [H, W, C], gray or RGB."""
    axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
