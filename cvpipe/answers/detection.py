"""Answers of detection as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cvpipe.answers.box import to_objects, to_sides
from cvpipe.data.annotated import Annotations

KINDS = frozenset(("boxes",))


def to_answer(predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """Return answer n of a batch.

    Keys: "objects", in order of decreasing score, each with "box" {"ymin", "xmin", "ymax", "xmax"}
    in pixels of the original image, "class_id", "class_name" and "score"; "count", the number of
    objects; "image_size" [height, width].
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


def to_annotations(answer: Mapping[str, Any]) -> Annotations:
    """Return the objects with their scores."""
    found = answer["objects"]
    boxes, labels, scores = (
        [entry[key] for entry in found] for key in ("box", "class_id", "score")
    )
    return Annotations(objects=to_objects(boxes, labels, scores, answer["image_size"]))
