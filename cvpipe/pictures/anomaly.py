"""Pictures of anomaly detection: heat maps over images. The middle color is the threshold."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from cvpipe.answers.anomaly import LEAST_THRESHOLD, MIDDLE, heat_map_of, shades
from cvpipe.config import Anomaly
from cvpipe.data.facts import Facts
from cvpipe.data.prepare import prepare_mask
from cvpipe.geometry.masks import IGNORED
from cvpipe.pictures import Arrays, Pictures
from cvpipe.pictures.drawing import charts, grids
from cvpipe.pictures.heat import blend
from cvpipe.pictures.photo import Entry, show_photo

MOST_ROWS = 8


def make_pictures(config: Anomaly, facts: Facts) -> Pictures:
    """Return the pictures of an anomaly detector."""
    return Pictures(
        partial(draw_targets, facts=facts),
        partial(draw_answers, config=config, facts=facts),
        draw_scores,
        draw_answer,
        kinds,
    )


def kinds(targets: Arrays, predictions: Arrays) -> np.ndarray:
    """Return a number for each pair of class and verdict: int64 [N]."""
    numbers: np.ndarray = 2 * targets["label"].astype(np.int64) + predictions["is_anomalous"]
    return numbers


def draw_targets(pixels: np.ndarray, targets: Arrays, *, facts: Facts) -> Figure:
    """Draw prepared images uint8 [N, H, W, C], titled with their classes."""
    return grids.image_grid(pixels, [facts.class_names[label] for label in targets["label"]])


def draw_answers(
    pixels: np.ndarray, targets: Arrays, predictions: Arrays, *, config: Anomaly, facts: Facts
) -> Figure:
    """Draw prepared images uint8 [N, H, W, C] beside their masks and the heat maps."""
    rows, names = [], []
    for n, image in enumerate(pixels[:MOST_ROWS]):
        size = predictions["image_size"][n]
        threshold = float(predictions["anomaly_threshold"][n])
        heat = shades(predictions["heat_map"][n], threshold)
        mask = targets["mask"][n]
        defect = np.where((mask > 0) & (mask != IGNORED), 255, 0).astype(np.uint8)
        rows.append(
            np.stack(
                [
                    np.broadcast_to(image, (*image.shape[:2], 3)),
                    blend(image, _placed(defect, size, config)),
                    blend(image, _placed(heat, size, config)),
                ]
            )
        )
        verdict = "anomalous" if predictions["is_anomalous"][n] else "normal"
        score = predictions["anomaly_score"][n] / max(threshold, LEAST_THRESHOLD)
        names.append(f"{facts.class_names[targets['label'][n]]}: {verdict}, {score:.2f}")
    return grids.image_table(rows, names, ["image", "truth", "answer"])


def draw_scores(scores: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw histograms of the images' scores by class."""
    return {"image_scores": charts.histograms(scores["image_scores"], "score", "images")}


def draw_answer(
    pixels: np.ndarray, answer: Mapping[str, Any], settings: Mapping[str, float | int]
) -> Figure:
    """Draw one image uint8 [H, W, C] with the heat map and the verdict of one answer."""
    verdict = "anomalous" if answer["is_anomalous"] else "normal"
    said = (
        f"{verdict}: score {answer['anomaly_score']:.3g}, threshold"
        f" {answer['anomaly_threshold']:.3g}"
    )
    return show_photo(blend(pixels, heat_map_of(answer) / 255), [Entry(said)])[0]


def _placed(values: np.ndarray, size: np.ndarray, config: Anomaly) -> np.ndarray:
    """Crop a map, uint8 [H, W], to `size`, and resize it like the prepared image. Returns values in
    0…1, with 0 in a letterbox's bars.
    """
    # `prepare_mask` fills the bars with IGNORED (255), so clip the map to values below it.
    part = tf.constant(np.minimum(values, 254)[: size[0], : size[1], np.newaxis])
    placed = prepare_mask(part, config.prepare)[..., 0].numpy()
    scaled: np.ndarray = np.where(placed == IGNORED, 0, placed / (2 * MIDDLE - 2))
    return scaled
