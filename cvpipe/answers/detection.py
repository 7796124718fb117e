"""Objects of an image as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def to_answer(predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """Return the nth of a batch of answers: "objects", each with box (ymin, xmin, ymax, xmax,
    pixels), class_id, class_name and score; "count".
    """
    count = int(predictions["count"][n])
    columns = (
        predictions[key][n, :count].tolist()
        for key in ("boxes", "class_ids", "class_names", "scores")
    )
    objects = [
        {"box": box, "class_id": class_id, "class_name": name.decode(), "score": score}
        for box, class_id, name, score in zip(*columns, strict=True)
    ]
    return {"objects": objects, "count": count}
