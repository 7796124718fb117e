"""SSD's default boxes, the reference boxes of every cell of every feature map (Liu et al. 2016,
section 2.2).

Dimensions: D default boxes, h × w cells of a layer, n default boxes per cell.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Layer:
    """The default boxes of one feature map; lengths are fractions of the image."""

    grid: tuple[int, int]
    """h, w: rows and columns of cells."""
    scale: float
    """s_k, the side of the square box."""
    next_scale: float
    """s_(k+1), the scale of the next layer. A second square has the side √(s_k s_(k+1))."""
    aspects: tuple[float, ...]
    """Aspect ratios (width / height) other than 1. Each ratio adds two boxes: one with the ratio,
    and one with its inverse.
    """
    step: tuple[float, float] | None = None
    """Distance between neighboring cells, down and across; None if the cells divide the image
    evenly.
    """

    @property
    def per_cell(self) -> int:
        """Number of default boxes per cell, n."""
        return 2 + 2 * len(self.aspects)


def default_boxes(layers: Sequence[Layer]) -> np.ndarray:
    """Return the default boxes of all layers.

    Their order is that of flattened heads [h, w, n × …]: by layer, row and column. Within a cell:
    the square, the larger square, then each aspect ratio and its inverse, as in the authors' code.
    Boxes near the border extend beyond the image.

    Returns:
        float32 [D, 4], [cy, cx, height, width], as fractions of the image's height and width.
    """
    return np.concatenate([_of_layer(layer) for layer in layers]).astype(np.float32)


def ssd300_layers() -> tuple[Layer, ...]:
    """Return the layers of SSD300's 8,732 default boxes, as published for Pascal VOC: sides of 30,
    60, 111, 162, 213 and 264 of 300 pixels.
    """
    scales = [pixels / 300 for pixels in (30, 60, 111, 162, 213, 264, 315)]
    return _published(300, (38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300), scales)


def ssd512_layers() -> tuple[Layer, ...]:
    """Return the layers of SSD512's 24,564 default boxes, as published for Pascal VOC: sides of 7,
    15, 30 … 90% of the image.
    """
    return _published(
        512,
        (64, 32, 16, 8, 4, 2, 1),
        (8, 16, 32, 64, 128, 256, 512),
        (0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05),
    )


def layers_for(
    grids: Sequence[tuple[int, int]],
    smallest: float,
    largest: float,
    aspects: Sequence[float] = (2.0,),
) -> tuple[Layer, ...]:
    """Return layers for any network, with scales spaced evenly from `smallest` to `largest`
    (section 2.2, equation 4).

    Args:
        grids: (h, w) of each feature map, the finest first.
        smallest: the first layer's scale, a fraction of the image.
        largest: the last layer's scale; for a single layer, its `next_scale`.
        aspects: `Layer.aspects`, the same for all layers.
    """
    gap = (largest - smallest) / max(len(grids) - 1, 1)
    scales = [smallest + gap * k for k in range(len(grids) + 1)]
    return tuple(
        Layer(grid, scale, after, tuple(aspects))
        for grid, (scale, after) in zip(grids, itertools.pairwise(scales), strict=True)
    )


def _published(
    size: int, grids: Sequence[int], steps: Sequence[int], scales: Sequence[float]
) -> tuple[Layer, ...]:
    # The finest layer and the two coarsest have no boxes of aspect ratio 3.
    aspects = [(2.0,), *[(2.0, 3.0)] * (len(grids) - 3), (2.0,), (2.0,)]
    return tuple(
        Layer((grid, grid), scale, after, ratios, (step / size, step / size))
        for grid, step, (scale, after), ratios in zip(
            grids, steps, itertools.pairwise(scales), aspects, strict=True
        )
    )


def _of_layer(layer: Layer) -> np.ndarray:
    """Return the default boxes of one layer, float64 [h w n, 4]."""
    rows, columns = layer.grid
    down, across = layer.step or (1 / rows, 1 / columns)
    centers = np.stack(
        np.meshgrid(
            (np.arange(rows) + 0.5) * down, (np.arange(columns) + 0.5) * across, indexing="ij"
        ),
        -1,
    )
    larger = math.sqrt(layer.scale * layer.next_scale)
    sizes = [(layer.scale, layer.scale), (larger, larger)]
    for aspect in layer.aspects:
        narrow, wide = layer.scale / math.sqrt(aspect), layer.scale * math.sqrt(aspect)
        sizes += [(narrow, wide), (wide, narrow)]
    cells = rows * columns
    return np.concatenate(
        [np.repeat(centers.reshape(cells, 2), layer.per_cell, axis=0), np.tile(sizes, (cells, 1))],
        axis=1,
    )
