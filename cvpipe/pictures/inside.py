"""Pictures of a network's filters, activations and features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from cvpipe.geometry.masks import palette
from cvpipe.pictures.drawing import TITLE
from cvpipe.pictures.drawing.text import legend_name, literal

MOST_CLASSES = 20
"""Largest number of classes that `scatter` distinguishes by color."""


def filter_images(kernel: np.ndarray) -> np.ndarray:
    """Return the filters of a convolution on an image as images, uint8 [F, h, w, C].

    A weight of 0 is gray, and a filter's largest absolute weight is black or white.

    Args:
        kernel: float [h, w, C, F]. Unless C is 1 or 3, only the first input channel is shown.
    """
    shown = kernel if kernel.shape[2] in (1, 3) else kernel[:, :, :1]
    filters = np.moveaxis(shown, -1, 0)
    largest = np.abs(filters).max(axis=(1, 2, 3), keepdims=True)
    scaled = np.divide(filters, largest, out=np.zeros_like(filters), where=largest > 0)
    return np.round(127.5 + 127.5 * scaled).astype(np.uint8)


def activation_images(features: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the channels of a feature map with the largest range of values as images, uint8 [n, h,
    w, 1], and their numbers, int64 [n]. A channel's smallest value is black, its largest white.

    Args:
        features: float [h, w, F].
        most: largest number of channels to return.
    """
    low, high = features.min((0, 1)), features.max((0, 1))
    channels = np.argsort(low - high, kind="stable")[:most]
    chosen = features[..., channels] - low[channels]
    spread = (high - low)[channels]
    scaled = np.divide(chosen, spread, out=np.zeros_like(chosen), where=spread > 0)
    return np.moveaxis(np.round(255 * scaled), -1, 0)[..., np.newaxis].astype(np.uint8), channels


def scatter(
    places: np.ndarray, thumbnails: np.ndarray, labels: Sequence[str], side: float = 9.0
) -> Figure:
    """Draw images at given positions, framed in the colors of their classes.

    Args:
        places: positions of the images, float [N, 2].
        thumbnails: uint8 [N, h, w, C].
        labels: the class of each image; empty if there are no classes.
        side: width and height of the figure in inches.
    """
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    names = sorted(set(labels)) if len(set(labels)) <= MOST_CLASSES else []
    colors = dict(zip(names, palette() / 255, strict=False))
    zoom = 30 / max(thumbnails.shape[1:3])
    for n, place in enumerate(places):
        image = np.broadcast_to(thumbnails[n], (*thumbnails.shape[1:3], 3))
        color = colors.get(labels[n]) if len(labels) else None
        frame = {"edgecolor": "none" if color is None else color, "linewidth": 1.5}
        box = OffsetImage(image, zoom=zoom)
        axes.add_artist(
            AnnotationBbox(
                box, (place[0], place[1]), pad=0.15, frameon=color is not None, bboxprops=frame
            )
        )
    axes.set(xticks=[], yticks=[])
    axes.update_datalim(places)
    axes.margins(0.05)
    axes.autoscale_view()
    for name, color in colors.items():
        axes.scatter([], [], color=color, label=legend_name(name))
    if colors:
        axes.legend(fontsize=TITLE, loc="upper right")
    return figure


def sprite(thumbnails: np.ndarray) -> np.ndarray:
    """Arrange images row by row in a square grid, as TensorBoard's projector needs them: uint8
    [n × h, n × w, 3].
    """
    count, height, width = thumbnails.shape[:3]
    side = int(np.ceil(np.sqrt(count)))
    grid = np.zeros((side * side, height, width, 3), np.uint8)
    grid[:count] = thumbnails
    rows = grid.reshape(side, side, height, width, 3).swapaxes(1, 2)
    return rows.reshape(side * height, side * width, 3)


def similarity_curves(similarities: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw a curve for each method of explanation.

    Args:
        similarities: by method and layer, the similarity between the network's maps and the maps
            of a network whose layers from the last down to this layer have shuffled weights.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for method, own in similarities.items():
        axes.plot(range(len(own)), list(own.values()), marker="o", label=legend_name(method))
        axes.set_xticks(range(len(own)), [literal(name) for name in own], rotation=45, ha="right")
    axes.set(xlabel="layers shuffled down to", ylabel="rank correlation", ylim=(0, 1.03))
    axes.legend(fontsize=TITLE)
    return figure
