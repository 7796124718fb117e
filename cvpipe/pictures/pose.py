"""Pictures of pose: keypoints and the lines between them over images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvpipe.config import Pose
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import place_boxes
from cvpipe.pictures import Arrays, Pictures
from cvpipe.pictures.drawing import RIGHT, TRUTH, charts, grids
from cvpipe.pictures.photo import Entry, color_of, show_photo

DRAWN_SCORE = 0.1
"""Lowest score of a keypoint that is drawn."""
NEAR = 0.1
"""A keypoint counts as found if its error is at most this share of the longer side of the object's
box.
"""


def make_pictures(config: Pose, facts: Facts) -> Pictures:
    """Return the pictures of a pose network."""
    return Pictures(
        partial(draw_targets, config=config, facts=facts),
        partial(draw_answers, config=config, facts=facts),
        draw_scores,
        partial(draw_answer, facts=facts),
        kinds,
    )


def kinds(targets: Arrays, predictions: Arrays) -> np.ndarray:
    """Return the kinds of images, int64 [N]: 1 if all annotated keypoints are found, with an error
    of at most NEAR, else 0.
    """
    extent = predictions["image_size"][:, np.newaxis]
    error = np.linalg.norm(predictions["keypoints"] - targets["keypoints"] * extent, axis=-1)
    sides = (targets["box"][:, 2:] - targets["box"][:, :2]) * extent[:, 0]
    found = error <= NEAR * sides.max(axis=1, keepdims=True)
    return (found | (targets["visibility"] == 0)).all(axis=1).astype(np.int64)


def draw_targets(pixels: np.ndarray, targets: Arrays, *, config: Pose, facts: Facts) -> Figure:
    """Draw prepared images uint8 [N, H, W, C] with their keypoints, hidden keypoints as rings."""
    figure = grids.boxes_grid(pixels, [[]] * len(pixels))
    for n, axes in enumerate(figure.axes[: len(pixels)]):
        _draw_truth(axes, targets, n, pixels.shape[1:3], config, facts, RIGHT)
    return figure


def draw_answers(
    pixels: np.ndarray, targets: Arrays, predictions: Arrays, *, config: Pose, facts: Facts
) -> Figure:
    """Draw prepared images uint8 [N, H, W, C] with true keypoints in gray and predicted keypoints
    in blue.
    """
    size = pixels.shape[1:3]
    legend = {"truth": TRUTH, "answer": RIGHT}
    figure = grids.boxes_grid(pixels, [[]] * len(pixels), legend=legend)
    for n, axes in enumerate(figure.axes[: len(pixels)]):
        _draw_truth(axes, targets, n, size, config, facts, TRUTH)
        extent = predictions["image_size"][n]
        points = _placed(predictions["keypoints"][n] / extent, extent, size, config)
        shown = predictions["scores"][n] >= DRAWN_SCORE
        draw_points(axes, points, shown, shown, facts, RIGHT)
    return figure


def draw_scores(scores: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw PCK@0.1 of each keypoint: the share of images in which it is found."""
    found = {name: float(np.nan_to_num(own["pck"])) for name, own in scores["per_keypoint"].items()}
    return {"keypoint_pck": charts.bars(found, "PCK@0.1")}


def draw_answer(
    pixels: np.ndarray,
    answer: Mapping[str, Any],
    settings: Mapping[str, float | int],
    *,
    facts: Facts,
) -> Figure:
    """Draw one image uint8 [H, W, C] with the keypoints of one answer, each in its own color.
    Keypoints with a score below DRAWN_SCORE are left out.
    """
    scores = [point["score"] for point in answer["keypoints"]]
    shown = np.array(scores) >= DRAWN_SCORE
    legend = [
        Entry(f"{point['name']} {point['score']:.0%}", color_of(n))
        for n, point in enumerate(answer["keypoints"])
        if shown[n]
    ]
    figure, axes = show_photo(pixels, legend)
    points = np.array([[point["y"], point["x"]] for point in answer["keypoints"]])
    draw_points(axes, points, shown, shown, facts, RIGHT)
    y, x = points[shown].T - 0.5
    axes.scatter(x, y, s=16, c=[color_of(int(n)) for n in np.flatnonzero(shown)], zorder=4)
    return figure


def _draw_truth(
    axes: Axes,
    targets: Arrays,
    n: int,
    size: tuple[int, ...],
    config: Pose,
    facts: Facts,
    color: str,
) -> None:
    points = _placed(targets["keypoints"][n], targets["extent"][n], size, config)
    visibility = targets["visibility"][n]
    draw_points(axes, points, visibility > 0, visibility > 1, facts, color)


def draw_points(
    axes: Axes, points: np.ndarray, shown: np.ndarray, filled: np.ndarray, facts: Facts, color: str
) -> None:
    """Draw keypoints and the skeleton's lines between them.

    Args:
        points: float [P, 2], in pixels.
        shown: bool [P], True for points to draw.
        filled: bool [P], True for points to draw as disks, False for rings.
        facts: names the skeleton's lines.
        color: color of points and lines.
    """
    # Pixel i covers i − 0.5 … i + 0.5 here.
    y, x = points.T - 0.5
    for first, last in facts.skeleton:
        if shown[first] and shown[last]:
            axes.plot(x[[first, last]], y[[first, last]], color=color, linewidth=1.2)
    faces = [color if full else "none" for full in filled[shown]]
    axes.scatter(x[shown], y[shown], s=10, facecolors=faces, edgecolors=color, zorder=3)


def _placed(
    points: np.ndarray, extent: np.ndarray, size: tuple[int, ...], config: Pose
) -> np.ndarray:
    """Convert points [P, 2] from fractions of an image to pixels of the prepared image."""
    boxes = tf.constant(np.tile(points, 2)[np.newaxis], tf.float32)
    placed = place_boxes(boxes, tf.constant(extent)[np.newaxis], config.prepare)
    return placed[0, :, :2].numpy() * size
