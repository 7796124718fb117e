"""Answers of detection as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cvpipe.answers.box import to_sides


def to_answer(predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """Return answer n of a batch.

    "objects", in order of decreasing score, each with "box" {"ymin", "xmin", "ymax", "xmax"} in
    pixels of the original image, "class_id", "class_name" and "score"; "count", their number;
    "image_size" [height, width].
    """
    count = int(predictions["count"][n])
    columns = (
        predictions[key][n, :count].tolist() for key in ("class_ids", "class_names", "scores")
    )
    objects = [
        {"box": to_sides(box), "class_id": class_id, "class_name": name.decode(), "score": score}
        for box, class_id, name, score in zip(
            predictions["boxes"][n, :count], *columns, strict=True
        )
    ]
    return {"objects": objects, "count": count, "image_size": predictions["image_size"][n].tolist()}
