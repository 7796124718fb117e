"""Scores of style transfer: the parts of the perceptual loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


class StyleMetrics:
    """Parts of the loss, averaged over photos."""

    def __init__(self, parts: Callable[[Any, Any], Mapping[str, Any]]) -> None:
        """`parts` maps a stylized picture, float32 [h, w, 3] in 0…1, and the photo that it was made
        from, uint8 of the same shape, to numbers by name, [1] each.
        """
        self._parts = parts
        self._sums: dict[str, float] = {}
        self._photos = 0

    def update(
        self,
        predictions: Mapping[str, np.ndarray],
        targets: Mapping[str, np.ndarray],
        weight: np.ndarray,
    ) -> None:
        """Add a batch; examples of weight 0 don't count."""
        for n in np.flatnonzero(weight):
            height, width = predictions["image_size"][n]
            picture = predictions["picture"][n][:height, :width]
            photo = targets["photo"][n][:height, :width]
            for name, value in self._parts(picture, photo).items():
                self._sums[name] = self._sums.get(name, 0.0) + float(value[0])
            self._photos += 1

    def result(self) -> dict[str, Any]:
        """Return "perceptual_loss", and its parts "content_loss", "style_loss" and
        "variation_loss".
        """
        means = {f"{name}_loss": total / self._photos for name, total in self._sums.items()}
        return {"perceptual_loss": sum(means.values()) if means else float("nan"), **means}
