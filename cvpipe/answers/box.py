"""Boxes as JSON."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

SIDES = ("ymin", "xmin", "ymax", "xmax")
"""Order of a box's coordinates in tensors, and their names in JSON."""


def to_sides(box: np.ndarray) -> dict[str, float]:
    """Return a box, float [4] in pixels, as a dictionary."""
    return dict(zip(SIDES, box.tolist(), strict=True))


def from_sides(sides: Mapping[str, float]) -> list[float]:
    """Return the coordinates of a box in the order of `SIDES`."""
    return [sides[side] for side in SIDES]
