"""Pictures of explanations: maps over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from cvpipe.pictures.drawing import TITLE
from cvpipe.pictures.drawing.grids import image_table
from cvpipe.pictures.drawing.text import legend_name

# Maps are clipped at this percentile, so that a single large value doesn't make the rest dark.
BRIGHTEST = 99.5


def draw_maps(pixels: np.ndarray, maps: Mapping[str, np.ndarray], names: Sequence[str]) -> Figure:
    """Draw a row for each image: the image, then the image overlaid with each map.

    Args:
        pixels: uint8 [N, H, W, C].
        maps: by name, [N, H, W] each.
        names: a name for each image.
    """
    rows = [
        np.stack([_rgb(image), *(overlay(image, own[n]) for own in maps.values())])
        for n, image in enumerate(pixels)
    ]
    return image_table(rows, names, ["image", *maps])


Point = tuple[float, float, tuple[float, float]]
"""Strength of an attack, score, and the score's confidence interval."""


def robustness_curves(lines: Mapping[str, Sequence[Point]], strength: str, score: str) -> Figure:
    """Draw scores in 0…1 over the strength of an attack, with confidence intervals.

    Args:
        lines: the points of each line by its name.
        strength: label of the horizontal axis.
        score: label of the vertical axis.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for n, (name, points) in enumerate(lines.items()):
        where, scores, intervals = zip(*points, strict=True)
        low, high = zip(*intervals, strict=True)
        axes.fill_between(where, low, high, color=f"C{n % 10}", alpha=0.2)
        axes.plot(where, scores, marker="o", color=f"C{n % 10}", label=legend_name(name))
    axes.set(xlabel=strength, ylabel=score, ylim=(0, 1.03))
    axes.legend(fontsize=TITLE)
    return figure


def overlay(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return an image uint8 [H, W, C] overlaid with the colors of a map [H, W]: uint8 [H, W, 3]."""
    return blend(image, scaled_map(values))


def blend(image: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """Return an image uint8 [H, W, C] overlaid with the colors of a map [H, W] in 0…1: uint8 [H, W,
    3].
    """
    colors = 255 * colormaps["inferno"](scaled)[..., :3]
    gray = _rgb(image).mean(axis=-1, keepdims=True)
    share = 0.25 + 0.6 * scaled[..., np.newaxis]
    return np.round((1 - share) * gray + share * colors).astype(np.uint8)


def scaled_map(values: np.ndarray) -> np.ndarray:
    """Scale a map to 0…1. If it has negative values, they become 0; otherwise the smallest value
    becomes 0.
    """
    values = np.maximum(values, 0) if values.min() < 0 else values - values.min()
    top = np.percentile(values, BRIGHTEST) or values.max()
    return np.clip(values / top, 0, 1) if top > 0 else np.zeros_like(values)


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.broadcast_to(image, (*image.shape[:2], 3))
