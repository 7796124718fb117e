"""Boxes in pixels as scores see them, in NumPy: rounded once, with exact overlaps.

Boxes are float64 [..., 4], ymin, xmin, ymax, xmax in pixels.
"""

from __future__ import annotations

import numpy as np

DECIMALS = 3
"""Decimals of a pixel to which boxes are rounded. COCO annotates hundredths, which normalized
float32 boxes miss by less than this. Without it IoUs that equal a threshold exactly, as some do in
COCO's own example, would fall on either side.
"""


def rounded(boxes: np.ndarray) -> np.ndarray:
    """Return boxes rounded to `DECIMALS`."""
    return np.round(np.asarray(boxes, np.float64), DECIMALS)


def area(boxes: np.ndarray) -> np.ndarray:
    """Return areas in pixels², float64 [...]; 0 where a box is inverted."""
    return np.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(-1)


def overlaps(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the IoU of rounded boxes that broadcast, and the share of a's area that lies in b.

    Both are float64 [...], and 0 where they would be divided by 0. They are quotients of whole
    numbers, exact for images of up to 60,000 pixels a side: what is one half is 0.5.
    """
    a, b = (np.rint(boxes * 10**DECIMALS) for boxes in (a, b))
    shared = area(
        np.concatenate([np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])], -1)
    )
    of_a = np.broadcast_to(area(a), shared.shape)
    union = of_a + area(b) - shared
    return _share(shared, union), _share(shared, of_a)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
