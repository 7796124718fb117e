"""Answers of segmentation as JSON."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from cvpipe.data.annotated import Annotations

KINDS = frozenset(("masks",))


def to_answer(predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """Return answer n of a batch.

    Keys: "image_size" [height, width]; "shares" {class name: fraction of the pixels} of the classes
    that occur, in decreasing order; "class_ids" {class name: class number} of the same classes;
    "mask" {"b64": a base64-encoded grayscale PNG of that size whose values are class numbers}.
    """
    height, width = predictions["image_size"][n].tolist()
    names = [name.decode() for name in predictions["class_names"][n]]
    named = zip(names, predictions["shares"][n].tolist(), strict=True)
    shares = {name: share for name, share in sorted(named, key=lambda pair: -pair[1]) if share > 0}
    class_ids = {name: number for number, name in enumerate(names) if name in shares}
    file = io.BytesIO()
    Image.fromarray(predictions["mask"][n][:height, :width]).save(file, "PNG")
    mask = {"b64": base64.b64encode(file.getvalue()).decode("ascii")}
    sizes = {"image_size": [height, width], "shares": shares}
    return {**sizes, "class_ids": class_ids, "mask": mask}


def mask_of(answer: Mapping[str, Any]) -> np.ndarray:
    """Decode the mask in an answer of `to_answer`: uint8 [height, width], class numbers."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(answer["mask"]["b64"]))))


def to_annotations(answer: Mapping[str, Any]) -> Annotations:
    """Return the mask."""
    return Annotations(mask=mask_of(answer))
