"""Answers of pose as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def to_answer(predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """Return answer n of a batch: "keypoints", each with name, y, x (pixels) and score;
    "image_size" [height, width].
    """
    columns = (predictions[key][n].tolist() for key in ("keypoint_names", "keypoints", "scores"))
    keypoints = [
        {"name": name.decode(), "y": y, "x": x, "score": score}
        for name, (y, x), score in zip(*columns, strict=True)
    ]
    return {"keypoints": keypoints, "image_size": predictions["image_size"][n].tolist()}
