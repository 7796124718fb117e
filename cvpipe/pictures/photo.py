"""Pictures of a single photo at its own resolution, with boxes on it and a legend below."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cvpipe.pictures.drawing.fonts import one_warning_of_fonts
from cvpipe.pictures.drawing.text import legend_name, literal

MOST, LEAST = 2048, 256
"""Limits of the longer side in pixels. Larger photos are reduced; smaller ones are enlarged by an
integer factor.
"""
DPI = 100
FONT_SIZE = 8
PADDING = 1.5
Color = tuple[float, ...]


class Entry(NamedTuple):
    """An entry of a legend."""

    text: str
    color: Color | None = None
    """RGB in 0…1; None for an entry without a colored patch."""


def color_of(number: int) -> Color:
    """Return the color of a class number. Colors of successive numbers differ, and all are dark
    enough for white text.
    """
    return colorsys.hsv_to_rgb(0.6 + 0.618034 * number % 1, 0.9, 0.7)


def rgb(color: str) -> Color:
    """Parse a color written as #rrggbb."""
    return tuple(int(color[n : n + 2], 16) / 255 for n in (1, 3, 5))


@one_warning_of_fonts()
def show_photo(
    pixels: np.ndarray, legend: Sequence[Entry], most: int = MOST
) -> tuple[Figure, Axes]:
    """Draw an image uint8 [H, W, C], gray or RGB, and a legend below it. Images whose longer side
    has more than `most` pixels are reduced.

    Returns:
        The figure and its axes. Coordinates of the axes are pixels of the image; the center of the
        first pixel is at (0, 0).
    """
    height, width = pixels.shape[:2]
    longest = max(height, width)
    scale = most / longest if longest > most else max(LEAST // longest, 1)
    height, width = max(round(scale * height), 1), max(round(scale * width), 1)
    figure = Figure(dpi=DPI)
    # matplotlib's canvases have no types.
    canvas: Any = FigureCanvasAgg(figure)
    below_width, below = _add_legend(figure, canvas, legend, width)
    # Add a fraction of a pixel: otherwise rounding in the division by DPI could cut off a pixel.
    whole = np.array([max(width, below_width), height + below]) + 0.01
    figure.set_size_inches(*(whole / DPI))
    axes = figure.add_axes((0, below / whole[1], width / whole[0], height / whole[1]))
    axes.axis("off")
    axes.imshow(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), aspect="auto")
    axes.autoscale(False)
    return figure, axes


@one_warning_of_fonts()
def draw_box(axes: Axes, box: Sequence[float], title: str, color: Color) -> None:
    """Draw a box (ymin, xmin, ymax, xmax in pixels) and its title. A title that would extend beyond
    the photo is moved or made smaller.
    """
    top, left, bottom, right = box
    # Pixel i covers i − 0.5 … i + 0.5 here.
    corner = (left - 0.5, top - 0.5)
    frame = Rectangle(
        corner, right - left, bottom - top, fill=False, edgecolor=color, linewidth=1.5
    )
    axes.add_patch(frame)
    text = axes.text(
        *corner,
        literal(title),
        color="white",
        fontsize=FONT_SIZE,
        va="bottom",
        bbox={"facecolor": color, "edgecolor": "none", "pad": PADDING},
    )
    canvas: Any = axes.get_figure(root=True).canvas  # type: ignore[union-attr]
    renderer, room = canvas.get_renderer(), axes.bbox

    def extent() -> Any:
        return text.get_window_extent(renderer).padded(PADDING * DPI / 72)

    if extent().width > room.width:
        text.set_fontsize(FONT_SIZE * room.width / extent().width)
    own = extent()
    across = max(room.x0 - own.x0, min(room.x1 - own.x1, 0))
    up = max(room.y0 - own.y0, min(room.y1 - own.y1, 0))
    place = axes.transData.transform(corner) + np.array([across, up])
    x, y = axes.transData.inverted().transform(place)
    text.set_position((x, y))


def _add_legend(
    figure: Figure, canvas: Any, entries: Sequence[Entry], width: int
) -> tuple[int, int]:
    """Add a legend to the lower left corner, with as many columns as fit into `width` pixels.
    Return the legend's width and height in pixels.
    """
    if not entries:
        return 0, 0
    extent = _draw_legend(figure, canvas, entries, 1)
    columns = min(int(width // extent.width), len(entries))
    if columns > 1:
        figure.legends[0].remove()
        extent = _draw_legend(figure, canvas, entries, columns)
    return int(np.ceil(extent.width)), int(np.ceil(extent.height))


def _draw_legend(figure: Figure, canvas: Any, entries: Sequence[Entry], columns: int) -> Any:
    """Draw the legend, and return its extent in pixels."""
    handles = [
        Rectangle((0, 0), 1, 1, facecolor=entry.color or "none", edgecolor="none")
        for entry in entries
    ]
    legend = figure.legend(
        handles,
        [legend_name(entry.text) for entry in entries],
        loc="lower left",
        bbox_to_anchor=(0, 0),
        borderaxespad=0,
        ncols=columns,
        fontsize=FONT_SIZE,
        frameon=False,
    )
    return legend.get_window_extent(canvas.get_renderer())
