"""Rendering of figures as PNG or JPEG files, arrays, and images for TensorBoard."""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cvpipe.pictures.drawing.fonts import one_warning_of_fonts

log = logging.getLogger(__name__)

# Approximate width of TensorBoard's image cards in pixels.
CARD = 400
Drawn = TypeVar("Drawn")


def try_to_draw(name: str, draw: Callable[[], Drawn]) -> Drawn | None:
    """Return the result of `draw`. If it fails, log a warning and return None, so that training
    continues.
    """
    try:
        return draw()
    except Exception as error:
        log.warning(
            "the picture '%s' is left out, since it can't be drawn (%s: %s)",
            name,
            type(error).__name__,
            str(error).strip()[:300],
        )
        return None


def to_png(figure: Figure, dpi: float = 100) -> bytes:
    """Render a figure as the content of a PNG file."""
    content = io.BytesIO()
    with one_warning_of_fonts():
        figure.savefig(content, format="png", dpi=dpi)
    return content.getvalue()


def to_jpeg(figure: Figure, dpi: float = 100) -> bytes:
    """Render a figure as the content of a JPEG file, for documents with many photos."""
    content = io.BytesIO()
    with one_warning_of_fonts():
        figure.savefig(content, format="jpeg", dpi=dpi, pil_kwargs={"quality": 85})
    return content.getvalue()


def to_pixels(figure: Figure) -> np.ndarray:
    """Render a figure as an RGB image, uint8 [H, W, 3]."""
    # matplotlib's canvases have no types.
    canvas: Any = FigureCanvasAgg(figure)
    with one_warning_of_fonts():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def to_cards(figure: Figure) -> np.ndarray:
    """Render a figure for TensorBoard, as RGB images uint8 [N, H, W, 3].

    A grid of images is cut into strips of whole columns that are about as wide as TensorBoard's
    cards, so its titles can be read there. Other figures are one image.
    """
    pixels = to_pixels(figure)
    columns = _columns_of_images(figure)
    edges = np.linspace(0, pixels.shape[1], columns + 1).round().astype(int)
    edges = np.append(edges[:-1][:: max(CARD * columns // pixels.shape[1], 1)], edges[-1])
    widest = int(np.diff(edges).max())
    strips = [pixels[:, begin:end] for begin, end in itertools.pairwise(edges)]
    return np.stack(
        [
            np.pad(strip, ((0, 0), (0, widest - strip.shape[1]), (0, 0)), constant_values=255)
            for strip in strips
        ]
    )


def _columns_of_images(figure: Figure) -> int:
    """Return the number of columns of a grid of images; 1 for other figures."""
    if figure.legends or any(axes.axison for axes in figure.axes):
        return 1
    grid = figure.axes[0].get_subplotspec() if figure.axes else None
    return grid.get_gridspec().ncols if grid else 1
