"""Pictures of localization: images with one box each, titled with the class."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from cvpipe.answers.box import from_sides
from cvpipe.config import Localization
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import place_boxes
from cvpipe.pictures import Arrays, Pictures, classification
from cvpipe.pictures.drawing import RIGHT, TRUTH, WRONG, charts, grids
from cvpipe.pictures.photo import Entry, color_of, draw_box, show_photo


def make_pictures(config: Localization, facts: Facts) -> Pictures:
    """Return the pictures of a localizer."""
    return Pictures(
        partial(draw_targets, config=config, facts=facts),
        partial(draw_answers, config=config, facts=facts),
        draw_scores,
        draw_answer,
        classification.kinds,
    )


def draw_targets(
    pixels: np.ndarray, targets: Arrays, *, config: Localization, facts: Facts
) -> Figure:
    """Draw prepared images uint8 [N, H, W, C], each with its true object."""
    truths = _truths(targets, pixels.shape[1:3], config, facts)
    return grids.boxes_grid(pixels, [[truth] for truth in truths])


def draw_answers(
    pixels: np.ndarray, targets: Arrays, predictions: Arrays, *, config: Localization, facts: Facts
) -> Figure:
    """Draw prepared images uint8 [N, H, W, C] with the true object in gray and the answer on top:
    blue if the class is correct, orange if it is wrong.
    """
    size, sizes = pixels.shape[1:3], predictions["image_size"]
    boxes = _placed(predictions["box"] / np.tile(sizes, 2), sizes, size, config)
    correct = predictions["class_id"] == targets["label"]
    marks = [
        [
            truth._replace(color=TRUTH),
            grids.Marks(
                box[np.newaxis],
                [f"{facts.class_names[label]} {probability:.0%}"],
                RIGHT if hit else WRONG,
            ),
        ]
        for truth, box, label, probability, hit in zip(
            _truths(targets, size, config, facts),
            boxes,
            predictions["class_id"],
            predictions["probability"],
            correct,
            strict=True,
        )
    ]
    legend = {"truth": TRUTH, "right": RIGHT, "wrong class": WRONG}
    return grids.boxes_grid(pixels, marks, legend=legend)


def draw_scores(scores: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw the confusion matrix, the calibration of probabilities, and the kinds of mistakes."""
    return {
        **classification.draw_scores(scores),
        "mistakes": charts.bars(scores["mistakes"], "images"),
    }


def draw_answer(
    pixels: np.ndarray, answer: Mapping[str, Any], settings: Mapping[str, float | int]
) -> Figure:
    """Draw one image uint8 [H, W, C] with the box of one answer, and below it a legend of the most
    probable classes. The box has the color of the most probable class.
    """
    color = color_of(answer["class_id"])
    first, *others = [f"{top['class_name']} {top['probability']:.1%}" for top in answer["top"]]
    figure, axes = show_photo(pixels, [Entry(first, color), *map(Entry, others)])
    draw_box(axes, from_sides(answer["box"]), first, color)
    return figure


def _truths(
    targets: Arrays, size: tuple[int, ...], config: Localization, facts: Facts
) -> list[grids.Marks]:
    """Return the marks of each image's object; without a box if the image has no object."""
    boxes = _placed(targets["box"], targets["extent"], size, config)
    return [
        grids.Marks(box[np.newaxis], [facts.class_names[label]], RIGHT)
        if label >= 0
        else grids.Marks(np.zeros((0, 4)), [], RIGHT)
        for box, label in zip(boxes, targets["label"], strict=True)
    ]


def _placed(
    boxes: np.ndarray, extent: np.ndarray, size: tuple[int, ...], config: Localization
) -> np.ndarray:
    """Convert boxes [N, 4], one per image, from fractions of the image to pixels of the prepared
    image.
    """
    each = tf.constant(boxes, tf.float32)[:, tf.newaxis]
    placed = place_boxes(each, tf.constant(extent), config.prepare)[:, 0]
    return placed.numpy() * np.tile(size, 2)
