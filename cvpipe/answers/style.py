"""Answers of style as JSON."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image


def to_answer(predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """Return answer n of a batch.

    Keys: "image_size" [height, width]; "picture" {"b64": a base64-encoded PNG of that size}.
    """
    height, width = predictions["image_size"][n].tolist()
    pixels = np.round(255 * predictions["picture"][n][:height, :width])
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    picture = {"b64": base64.b64encode(file.getvalue()).decode("ascii")}
    return {"image_size": [height, width], "picture": picture}


def picture_of(answer: Mapping[str, Any]) -> np.ndarray:
    """Decode the picture in an answer of `to_answer`: uint8 [height, width, 3]."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(answer["picture"]["b64"]))))
