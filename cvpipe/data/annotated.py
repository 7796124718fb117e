"""An annotated image to be written, from a data set or from an artifact's answer.

Needs only NumPy. All coordinates refer to the upright image.

Dimensions: n objects of an image, P keypoints of an object.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Objects(NamedTuple):
    """The objects of an image."""

    boxes: np.ndarray
    """float32 [n, 4]: ymin, xmin, ymax, xmax as fractions of the image."""
    labels: np.ndarray
    """int [n]: positions in the class names."""
    crowd: np.ndarray
    """bool [n]: crowd regions and difficult objects."""
    area: np.ndarray
    """float32 [n]: area of the outline in pixels²; −1 if unknown."""
    keypoints: np.ndarray | None = None
    """float32 [n, P, 2]: y, x as fractions of the image."""
    visibility: np.ndarray | None = None
    """int [n, P]: COCO's 0 (not annotated), 1 (hidden) or 2 (visible)."""
    scores: np.ndarray | None = None
    """float [n] in 0…1; only in answers."""


class Annotations(NamedTuple):
    """All annotations of an image; None for kinds that the image doesn't have."""

    label: int | None = None
    """A position in the class names."""
    score: float | None = None
    """Probability of the label in 0…1; only in answers."""
    objects: Objects | None = None
    mask: np.ndarray | None = None
    """uint8 [H, W]: positions in the class names, or IGNORED."""

    @property
    def kinds(self) -> set[str]:
        """The kinds of annotation that the image has, as named in KINDS."""
        points = self.objects is not None and self.objects.keypoints is not None
        has = {
            "labels": self.label is not None,
            "boxes": self.objects is not None,
            "keypoints": points,
            "masks": self.mask is not None,
        }
        return {kind for kind, held in has.items() if held}


KINDS = ("labels", "boxes", "keypoints", "masks")
"""Names of the kinds of annotation, for messages."""


class Annotated(NamedTuple):
    """An image with its annotations."""

    split: str
    """"train", "validation" or "test"."""
    name: str
    """Name of the image for messages. Its last part is the file name."""
    content: bytes
    """The encoded image."""
    size: tuple[int, int]
    """Height and width of the upright image, pixels."""
    orientation: int
    """Exif orientation of the stored image, 1…8."""
    annotations: Annotations
    file: Path | None = None
    """Path of the file, for links; None if the image isn't a separate file in a folder."""


def to_pixels(fractions: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Convert fractions to pixels, with the fewest decimals that convert back to the same
    fractions.

    Args:
        fractions: float32 […].
        sides: length in pixels of the side that each fraction refers to; broadcast to `fractions`.

    Returns:
        float64 […]. Divided by the sides and rounded to float32, they equal the fractions.
    """
    sides = np.broadcast_to(np.asarray(sides, np.float64), fractions.shape)
    exact = fractions.astype(np.float64) * sides
    found = exact.copy()
    # The number of decimals decreases, so the last rounding that is accepted is the shortest.
    for decimals in range(_MOST_DECIMALS, -1, -1):
        rounded = np.round(exact, decimals)
        same = (rounded / sides).astype(np.float32) == fractions
        found[same] = rounded[same]
    return found


# On a side of 10,000 pixels, adjacent float32 fractions near 1e-4 differ by about 1e-11, which is
# 1e-7 pixels.
_MOST_DECIMALS = 8
