"""Pictures of classification: images under their classes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cvpipe.config import Classification
from cvpipe.data.facts import Facts
from cvpipe.pictures import Arrays, Pictures
from cvpipe.pictures.drawing import charts, grids
from cvpipe.pictures.photo import Entry, show_photo


def make_pictures(config: Classification, facts: Facts) -> Pictures:
    """Return the pictures of a classifier."""
    return Pictures(
        partial(draw_targets, facts=facts),
        partial(draw_answers, facts=facts),
        draw_scores,
        draw_answer,
        kinds,
    )


def kinds(targets: Arrays, predictions: Arrays) -> np.ndarray:
    """Return the kinds of examples, int64 [N]: the class, and whether the answer is correct."""
    labels = targets["label"].astype(np.int64)
    return 2 * labels + (predictions["class_id"] == labels)


def draw_targets(pixels: np.ndarray, targets: Arrays, *, facts: Facts) -> Figure:
    """Draw images uint8 [N, H, W, C] under their classes."""
    return grids.image_grid(pixels, [facts.class_names[label] for label in targets["label"]])


def draw_answers(
    pixels: np.ndarray, targets: Arrays, predictions: Arrays, *, facts: Facts
) -> Figure:
    """Draw images uint8 [N, H, W, C] under their answers: blue if correct, orange with the true
    class if wrong.
    """
    names = facts.class_names
    labels, answers = targets["label"], predictions["class_id"]
    titles = [
        f"{names[answer]} {probability:.0%}" + ("" if answer == label else f"\nis {names[label]}")
        for label, answer, probability in zip(
            labels, answers, predictions["probability"], strict=True
        )
    ]
    return grids.image_grid(pixels, titles, labels == answers)


def draw_scores(scores: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw the confusion matrix and the calibration of probabilities."""
    return {
        "confusion_matrix": charts.confusion_matrix(
            np.array(scores["confusion_matrix"]), list(scores["per_class"])
        ),
        "calibration": charts.reliability(np.array(scores["calibration_bins"])),
    }


def draw_answer(
    pixels: np.ndarray, answer: Mapping[str, Any], settings: Mapping[str, float | int]
) -> Figure:
    """Draw one image uint8 [H, W, C] above the most probable classes of one answer."""
    legend = [Entry(f"{own['class_name']} {own['probability']:.1%}") for own in answer["top"]]
    return show_photo(pixels, legend)[0]
