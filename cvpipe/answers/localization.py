"""Answers of localization as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cvpipe.answers import classification
from cvpipe.answers.box import to_objects, to_sides
from cvpipe.data.annotated import Annotations

KINDS = frozenset(("boxes",))


def to_answer(predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """Return answer n of a batch.

    Keys: those of a classification answer; "box" {"ymin", "xmin", "ymax", "xmax"} in pixels of the
    original image; "image_size" [height, width].
    """
    return {
        **classification.to_answer(predictions, n),
        "box": to_sides(predictions["box"][n]),
        "image_size": predictions["image_size"][n].tolist(),
    }


def to_annotations(answer: Mapping[str, Any]) -> Annotations:
    """Return the object, with the probability of its class as its score."""
    best = [answer["class_id"]], [answer["probability"]]
    return Annotations(objects=to_objects([answer["box"]], *best, answer["image_size"]))
