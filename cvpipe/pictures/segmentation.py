"""Pictures of segmentation: images beside their masks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from cvpipe.answers.segmentation import mask_of
from cvpipe.config import Segmentation
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import prepare_mask
from cvpipe.geometry.masks import IGNORED, overlay, palette
from cvpipe.pictures import Arrays, Pictures
from cvpipe.pictures.drawing import charts, grids
from cvpipe.pictures.photo import Entry, show_photo


def make_pictures(config: Segmentation, facts: Facts) -> Pictures:
    """Return the pictures of a segmenter."""
    return Pictures(
        partial(draw_targets, config=config, facts=facts),
        partial(draw_answers, config=config, facts=facts),
        draw_scores,
        partial(draw_answer, facts=facts),
        kinds,
    )


def kinds(targets: Arrays, predictions: Arrays) -> np.ndarray:
    """Return the kinds of images, int64 [N]. A kind combines the class with the fewest pixels in
    the image, and whether the answer has this class at at least half of these pixels.
    """
    pairs = zip(targets["mask"], predictions["mask"], strict=True)
    return np.array([_kind(truth, answer) for truth, answer in pairs])


def _kind(truth: np.ndarray, answer: np.ndarray) -> int:
    # The masks may be padded to different sizes.
    height, width = np.minimum(truth.shape, answer.shape)
    truth, answer = truth[:height, :width], answer[:height, :width]
    labels, counts = np.unique(truth[truth != IGNORED], return_counts=True)
    if not len(labels):
        return -1
    rarest = int(labels[counts.argmin()])
    return 2 * rarest + bool((answer[truth == rarest] == rarest).mean() >= 0.5)


def draw_targets(
    pixels: np.ndarray, targets: Arrays, *, config: Segmentation, facts: Facts
) -> Figure:
    """Draw prepared images uint8 [N, H, W, C] beside their masks."""
    rows = [
        (image, _placed(mask, mask.shape, image, config))
        for image, mask in zip(pixels, targets["mask"], strict=True)
    ]
    return grids.masks_table(
        [[image, overlay(image, mask).numpy()] for image, mask in rows],
        ["image", "truth"],
        facts.class_names,
    )


def draw_answers(
    pixels: np.ndarray, targets: Arrays, predictions: Arrays, *, config: Segmentation, facts: Facts
) -> Figure:
    """Draw prepared images uint8 [N, H, W, C] beside their true and predicted masks."""
    rows = []
    for image, true, answer, size in zip(
        pixels, targets["mask"], predictions["mask"], predictions["image_size"], strict=True
    ):
        shown = image[: size[0], : size[1]] if config.prepare.resize == "tile" else image
        rows.append(
            [
                shown,
                *(
                    overlay(shown, _placed(mask, size, shown, config)).numpy()
                    for mask in (true, answer)
                ),
            ]
        )
    return grids.masks_table(rows, ["image", "truth", "answer"], facts.class_names)


def draw_scores(scores: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw the confusion matrix, and the IoU of each class."""
    counts = np.array(scores["confusion_matrix"])
    shares = np.round(100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)).astype(int)
    ious = {name: float(np.nan_to_num(own["iou"])) for name, own in scores["per_class"].items()}
    return {
        "confusion_matrix": charts.confusion_matrix(shares, list(ious)),
        "class_iou": charts.bars(ious, "IoU"),
    }


def draw_answer(
    pixels: np.ndarray,
    answer: Mapping[str, Any],
    settings: Mapping[str, float | int],
    *,
    facts: Facts,
) -> Figure:
    """Draw one image uint8 [H, W, C] with the mask of one answer and a legend."""
    colors = dict(zip(facts.class_names, palette() / 255, strict=False))
    legend = [
        Entry(f"{name} {share:.1%}", tuple(colors[name]))
        for name, share in answer["shares"].items()
    ]
    return show_photo(overlay(pixels, mask_of(answer)).numpy(), legend)[0]


def _placed(
    mask: np.ndarray, size: np.ndarray | tuple[int, ...], image: np.ndarray, config: Segmentation
) -> np.ndarray:
    """Crop a mask to `size`, and resize it like the prepared image: uint8 [H, W]."""
    part = tf.constant(mask[: size[0], : size[1], np.newaxis])
    if config.prepare.resize == "tile" or part.shape[:2] == image.shape[:2]:
        return tf.image.resize(part, image.shape[:2], "nearest")[..., 0].numpy()
    return prepare_mask(part, config.prepare)[..., 0].numpy()
