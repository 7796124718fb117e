"""An artifact's answers to encoded images, for the servers of `serving_peers.py`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

MAX_BATCH = 32


class Model:
    """The artifact's signature for encoded images, warmed up."""

    def __init__(self, artifact: str) -> None:
        import tensorflow as tf

        self._constant, self._loaded = tf.constant, tf.saved_model.load(artifact)
        self._signature = self._loaded.signatures["serving_default"]
        for size in (1, 8, MAX_BATCH):
            self.answers([b""] * size)

    def answers(self, images: Sequence[bytes]) -> list[dict[str, Any]]:
        """Return the answer for each image as a dict."""
        outputs = self._signature(image_bytes=self._constant(images))
        columns = {name: plain(value.numpy()) for name, value in outputs.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def answers_of(self, requests: Sequence[Sequence[str]]) -> list[list[dict[str, Any]]]:
        """Return the answers to several requests, computed by one call."""
        flat = [base64.b64decode(image) for request in requests for image in request]
        rest = iter(self.answers(flat))
        return [[next(rest) for _ in request] for request in requests]


def plain(array: Any) -> list[Any]:
    """Convert an array to lists that can be encoded as JSON."""
    if array.dtype != object:
        return array.tolist()
    return [
        value.decode() if isinstance(value, bytes) else [one.decode() for one in value]
        for value in array.tolist()
    ]
