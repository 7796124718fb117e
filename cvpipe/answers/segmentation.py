"""A mask of an image as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def to_answer(predictions: Mapping[str, np.ndarray], n: int) -> dict[str, Any]:
    """Return the nth of a batch of answers.

    "image_size" [height, width]; "shares" {class name: its share of the pixels}, falling, without
    those that don't occur; "mask", the label of every pixel as runs along the rows, {"labels": a
    label each, "lengths": pixels each}.
    """
    height, width = predictions["image_size"][n].tolist()
    pixels = predictions["mask"][n][:height, :width].ravel()
    starts = np.flatnonzero(np.diff(pixels, prepend=-1))
    named = zip(
        (name.decode() for name in predictions["class_names"][n]),
        predictions["shares"][n].tolist(),
        strict=True,
    )
    shares = {name: share for name, share in sorted(named, key=lambda pair: -pair[1]) if share > 0}
    runs = {
        "labels": pixels[starts].tolist(),
        "lengths": np.diff(starts, append=len(pixels)).tolist(),
    }
    return {"image_size": [height, width], "shares": shares, "mask": runs}
