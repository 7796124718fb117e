"""Answers of classification as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cvpipe.data.annotated import Annotations

KINDS = frozenset(("labels",))


def to_answer(predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """Return answer n of a batch.

    Keys: "class_id", "class_name" and "probability" of the best class; "top", a list of the best
    classes with the same keys.
    """
    names = [name.decode() for name in predictions["top_class_names"][n]]
    ids, probabilities = (
        predictions["top_class_ids"][n].tolist(),
        predictions["top_probabilities"][n].tolist(),
    )
    top = [
        {"class_id": i, "class_name": name, "probability": p}
        for i, name, p in zip(ids, names, probabilities, strict=True)
    ]
    return {**top[0], "top": top}


def to_annotations(answer: Mapping[str, Any]) -> Annotations:
    """Return the best class as the image's label."""
    return Annotations(label=answer["class_id"], score=answer["probability"])
