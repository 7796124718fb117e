"""Pictures of style transfer: photos beside their stylized versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from cvpipe.answers.style import picture_of
from cvpipe.config import Style
from cvpipe.data.facts import Facts
from cvpipe.pictures import Arrays, Pictures
from cvpipe.pictures.drawing import grids
from cvpipe.pictures.photo import show_photo


def make_pictures(config: Style, facts: Facts) -> Pictures:
    """Return the pictures of a stylizer."""
    return Pictures(draw_targets, draw_answers, draw_scores, draw_answer, kinds)


def kinds(targets: Arrays, predictions: Arrays) -> np.ndarray:
    """Return the kinds of images, int64 [N]: all are of one kind."""
    return np.zeros(len(predictions["picture"]), np.int64)


def draw_targets(pixels: np.ndarray, targets: Arrays) -> Figure:
    """Draw prepared images uint8 [N, H, W, C]."""
    return grids.image_grid(pixels, [""] * len(pixels))


def draw_answers(pixels: np.ndarray, targets: Arrays, predictions: Arrays) -> Figure:
    """Draw images uint8 [N, H, W, C] beside their stylized pictures."""
    rows = []
    for image, picture, size in zip(
        pixels, predictions["picture"], predictions["image_size"], strict=True
    ):
        shown = 255 * tf.image.resize(picture[: size[0], : size[1]], image.shape[:2])
        rows.append(np.stack([image, np.round(shown).astype(np.uint8)]))
    return grids.image_table(rows, [""] * len(rows), ["photo", "picture"])


def draw_scores(scores: Mapping[str, Any]) -> dict[str, Figure]:
    """Return no figures: the scores are single numbers."""
    return {}


def draw_answer(
    pixels: np.ndarray, answer: Mapping[str, Any], options: Mapping[str, float | int]
) -> Figure:
    """Draw the picture of one image."""
    return show_photo(picture_of(answer), [])[0]
