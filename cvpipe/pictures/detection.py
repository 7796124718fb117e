"""Pictures of detection: boxes over images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from cvpipe.answers.box import from_sides
from cvpipe.answers.detection import to_answer
from cvpipe.config import Detection
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import place_boxes
from cvpipe.pictures import Arrays, Pictures
from cvpipe.pictures.drawing import RIGHT, TRUTH, charts, grids
from cvpipe.pictures.photo import Entry, color_of, draw_box, show_photo

DRAWN_SCORE = 0.3
"""Lowest score of objects that are drawn. Detectors also return objects with lower scores, which
average precision needs and which would clutter pictures.
"""


def make_pictures(config: Detection, facts: Facts) -> Pictures:
    """Return the pictures of a detector."""
    return Pictures(
        partial(draw_targets, config=config, facts=facts),
        partial(draw_answers, config=config, facts=facts),
        draw_scores,
        draw_answer,
        kinds,
    )


def kinds(targets: Arrays, predictions: Arrays) -> np.ndarray:
    """Return the kinds of images, int64 [N]. A kind combines the class with the fewest objects in
    the image, and whether the detections that are drawn have exactly the objects' classes.
    """
    return np.array([_kind(targets, predictions, n) for n in range(len(targets["labels"]))])


def _kind(targets: Arrays, predictions: Arrays, n: int) -> int:
    labels = targets["labels"][n]
    there = labels[(labels >= 0) & ~targets["crowd"][n]]
    is_answer = np.arange(len(predictions["scores"][n])) < predictions["count"][n]
    drawn = is_answer & (predictions["scores"][n] >= DRAWN_SCORE)
    right = np.array_equal(np.sort(there), np.sort(predictions["class_ids"][n][drawn]))
    classes, counts = np.unique(there, return_counts=True)
    rarest = int(classes[counts.argmin()]) if len(there) else -1
    return 2 * rarest + right


def draw_targets(pixels: np.ndarray, targets: Arrays, *, config: Detection, facts: Facts) -> Figure:
    """Draw prepared images uint8 [N, H, W, C] with their objects."""
    return grids.boxes_grid(
        pixels, [[_truth(targets, n, pixels.shape[1:3], config, facts)] for n in range(len(pixels))]
    )


def draw_answers(
    pixels: np.ndarray, targets: Arrays, predictions: Arrays, *, config: Detection, facts: Facts
) -> Figure:
    """Draw prepared images uint8 [N, H, W, C] with true objects in gray, and detections with a
    score of at least DRAWN_SCORE in blue.
    """
    size = pixels.shape[1:3]
    marks = []
    for n in range(len(pixels)):
        answers = to_answer(predictions, n)
        shown = [found for found in answers["objects"] if found["score"] >= DRAWN_SCORE]
        extent = predictions["image_size"][n]
        corners = [from_sides(found["box"]) for found in shown]
        boxes = np.array(corners, np.float32).reshape(-1, 4) / np.tile(extent, 2).astype(np.float32)
        answered = grids.Marks(
            _placed(boxes, extent, size, config), [_title(found) for found in shown], RIGHT
        )
        marks.append([_truth(targets, n, size, config, facts)._replace(color=TRUTH), answered])
    return grids.boxes_grid(pixels, marks, legend={"truth": TRUTH, "answer": RIGHT})


def draw_scores(scores: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw precision–recall curves of all classes, and counts of the kinds of errors."""
    measured, errors = scores["precision_recall"], dict(scores["errors"])
    threshold = errors.pop("score_threshold")
    return {
        "precision_recall": charts.precision_recall(
            measured["recall"], {"all": measured["precision"], **measured["per_class"]}
        ),
        "errors": charts.bars(
            errors, f"answers with a score of at least {threshold:g}, or objects"
        ),
    }


def draw_answer(
    pixels: np.ndarray, answer: Mapping[str, Any], settings: Mapping[str, float | int]
) -> Figure:
    """Draw one image uint8 [H, W, C] with the objects of one answer, in a color for each class.

    Objects whose score is below `score_threshold`, by default DRAWN_SCORE, are only counted in the
    legend.
    """
    lowest = settings.get("score_threshold", DRAWN_SCORE)
    shown = [found for found in answer["objects"] if found["score"] >= lowest]
    classes = Counter((found["class_id"], found["class_name"]) for found in shown)
    legend = [
        Entry(f"{name}: {count}", color_of(number))
        for (number, name), count in sorted(classes.items())
    ]
    if hidden := answer["count"] - len(shown):
        legend.append(Entry(f"not drawn, with a score below {lowest:.0%}: {hidden}"))
    figure, axes = show_photo(pixels, legend)
    # Draw the objects with the highest scores last, on top of the others.
    for found in reversed(shown):
        draw_box(axes, from_sides(found["box"]), _title(found), color_of(found["class_id"]))
    return figure


def _truth(
    targets: Arrays, n: int, size: tuple[int, ...], config: Detection, facts: Facts
) -> grids.Marks:
    filled = targets["labels"][n] >= 0
    boxes = _placed(targets["boxes"][n][filled], targets["extent"][n], size, config)
    return grids.Marks(
        boxes, [facts.class_names[label] for label in targets["labels"][n][filled]], RIGHT
    )


def _placed(
    boxes: np.ndarray, extent: np.ndarray, size: tuple[int, ...], config: Detection
) -> np.ndarray:
    """Convert boxes [n, 4] from fractions of an image to pixels of the prepared image."""
    placed = place_boxes(
        tf.constant(boxes)[tf.newaxis], tf.constant(extent)[tf.newaxis], config.prepare
    )[0]
    return placed.numpy() * np.tile(size, 2)


def _title(found: Mapping[str, Any]) -> str:
    return f"{found['class_name']} {found['score']:.0%}"
