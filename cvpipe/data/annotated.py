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
    """float32 [n]: pixels² of the outline; −1 where it isn't known."""
    keypoints: np.ndarray | None = None
    """float32 [n, P, 2]: y, x as fractions of the image."""
    visibility: np.ndarray | None = None
    """int [n, P]: COCO's 0 (not annotated), 1 (hidden) or 2 (visible)."""
    scores: np.ndarray | None = None
    """float [n] in 0…1, of answers."""


class Annotations(NamedTuple):
    """Everything that is known of an image; None for kinds of annotation that it doesn't have."""

    label: int | None = None
    """A position in the class names."""
    score: float | None = None
    """Probability of the label in 0…1, of answers."""
    objects: Objects | None = None
    mask: np.ndarray | None = None
    """uint8 [H, W]: positions in the class names, or IGNORED."""

    @property
    def kinds(self) -> set[str]:
        """Names of the kinds of annotation that the image has; see KINDS."""
        points = self.objects is not None and self.objects.keypoints is not None
        has = {
            "labels": self.label is not None,
            "boxes": self.objects is not None,
            "keypoints": points,
            "masks": self.mask is not None,
        }
        return {kind for kind, held in has.items() if held}


KINDS = ("labels", "boxes", "keypoints", "masks")
"""Kinds of annotation in words, for sentences."""


class Annotated(NamedTuple):
    """An image with its annotations."""

    split: str
    """"train", "validation" or "test"."""
    name: str
    """Its name for people; the last part is that of its file."""
    content: bytes
    """The encoded image."""
    size: tuple[int, int]
    """Height and width of the upright image, pixels."""
    orientation: int
    """Exif's, 1…8: how the stored image is turned upright."""
    annotations: Annotations
    file: Path | None = None
    """Its file where it lies as one in a folder, for links."""


def to_pixels(fractions: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Return places in pixels, in the fewest decimals that give the same fractions again.

    Args:
        fractions: float32 […].
        sides: the image's side that each is a fraction of, to be broadcast.

    Returns:
        float64 […]; divided by the side and rounded to float32 they are the fractions.
    """
    sides = np.broadcast_to(np.asarray(sides, np.float64), fractions.shape)
    exact = fractions.astype(np.float64) * sides
    found = exact.copy()
    # From many decimals to none, so that the last that holds is the shortest.
    for decimals in range(_MOST_DECIMALS, -1, -1):
        rounded = np.round(exact, decimals)
        same = (rounded / sides).astype(np.float32) == fractions
        found[same] = rounded[same]
    return found


# Of a side of 10,000 pixels, fractions of the size 1e-4 differ by 1e-11.
_MOST_DECIMALS = 8
