"""Answers of pose as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cvpipe.answers.box import to_objects
from cvpipe.data.annotated import Annotations

KINDS = frozenset(("boxes", "keypoints"))
# COCO's value for a visible keypoint.
_VISIBLE = 2
# Smallest height and width of a bounding box in pixels, for points on one spot or line.
_LEAST_SIDE = 1.0


def to_answer(predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """Return answer n of a batch.

    Keys: "keypoints", each with "name", "y" and "x" in pixels, and "score"; "image_size" [height,
    width].
    """
    columns = (predictions[key][n].tolist() for key in ("keypoint_names", "keypoints", "scores"))
    keypoints = [
        {"name": name.decode(), "y": y, "x": x, "score": score}
        for name, (y, x), score in zip(*columns, strict=True)
    ]
    return {"keypoints": keypoints, "image_size": predictions["image_size"][n].tolist()}


def to_annotations(answer: Mapping[str, Any]) -> Annotations:
    """Return one object of class 0 with all points, marked as visible, and their bounding box.

    The score of the object is the mean score of the points.
    """
    size, points = answer["image_size"], answer["keypoints"]
    places = np.array([[point["y"], point["x"]] for point in points])
    inside = np.clip(places, 0, size)
    low = np.minimum(inside.min(0), np.array(size) - _LEAST_SIDE)
    high = np.maximum(inside.max(0), low + _LEAST_SIDE)
    box = dict(zip(("ymin", "xmin", "ymax", "xmax"), [*low, *high], strict=True))
    score = float(np.mean([point["score"] for point in points]))
    return Annotations(
        objects=to_objects([box], [0], [score], size)._replace(
            keypoints=(inside / size).astype(np.float32)[np.newaxis],
            visibility=np.full((1, len(points)), _VISIBLE, np.int32),
        )
    )
