"""Boxes as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cvpipe.data.annotated import Objects

SIDES = ("ymin", "xmin", "ymax", "xmax")
"""Names of a box's coordinates in JSON, in the order of tensors."""


def to_sides(box: np.ndarray) -> dict[str, float]:
    """Return a box, float [4] in pixels, as a dictionary."""
    return dict(zip(SIDES, box.tolist(), strict=True))


def from_sides(sides: Mapping[str, float]) -> list[float]:
    """Return the coordinates of a box in the order of `SIDES`."""
    return [sides[side] for side in SIDES]


def to_objects(
    boxes: Sequence[Mapping[str, float]],
    labels: Sequence[int],
    scores: Sequence[float],
    size: Sequence[int],
) -> Objects:
    """Convert the n objects of an answer to annotations.

    Args:
        boxes: n boxes as JSON, pixels.
        labels, scores: n class numbers and scores.
        size: height and width of the image, pixels.
    """
    corners = np.array([from_sides(box) for box in boxes], np.float64).reshape(-1, 4)
    fractions = np.clip(corners / [*size, *size], 0, 1).astype(np.float32)
    count = len(fractions)
    return Objects(
        fractions,
        np.array(labels, np.int32),
        np.zeros(count, bool),
        np.full(count, -1, np.float32),
        scores=np.array(scores, np.float64),
    )
