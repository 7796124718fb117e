"""Answers of anomaly detection as JSON."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

MIDDLE = 128
"""Gray value of a pixel whose anomaly score equals the threshold."""
UNCALIBRATED = -1.0
"""Threshold of a network that isn't calibrated yet. Calibrated thresholds are at least 0."""
LEAST_THRESHOLD = 1e-9
"""Smallest divisor for scores as multiples of a threshold, which may be 0."""


def to_answer(predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """Return answer n of a batch.

    Keys: "is_anomalous"; "anomaly_score" and "anomaly_threshold"; "image_size" [height, width];
    "heat_map" {"b64": a base64-encoded grayscale PNG of that size}. Gray value 0 is normal, 128 the
    threshold, 255 at least about twice the threshold.
    """
    height, width = predictions["image_size"][n].tolist()
    threshold = float(predictions["anomaly_threshold"][n])
    heat = predictions["heat_map"][n][:height, :width]
    file = io.BytesIO()
    Image.fromarray(shades(heat, threshold)).save(file, "PNG")
    return {
        "is_anomalous": bool(predictions["is_anomalous"][n]),
        "anomaly_score": float(predictions["anomaly_score"][n]),
        "anomaly_threshold": threshold,
        "image_size": [height, width],
        "heat_map": {"b64": base64.b64encode(file.getvalue()).decode("ascii")},
    }


def shades(heat: np.ndarray, threshold: float) -> np.ndarray:
    """Convert a heat map, float [H, W], to gray values, uint8 [H, W]. Without a calibrated
    threshold, the middle is at 1.
    """
    middle = max(threshold, LEAST_THRESHOLD) if threshold != UNCALIBRATED else 1.0
    scale = MIDDLE / middle
    return np.clip(np.rint(scale * heat), 0, 255).astype(np.uint8)


def heat_map_of(answer: Mapping[str, Any]) -> np.ndarray:
    """Decode the heat map in an answer of `to_answer`: uint8 [height, width]."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(answer["heat_map"]["b64"]))))
