"""Boxes in pixels for scores, in NumPy: rounded once, with exact overlaps.

Boxes are float64 [..., 4], ymin, xmin, ymax, xmax in pixels.
"""

from __future__ import annotations

import numpy as np

DECIMALS = 3
"""Decimals to which pixel coordinates are rounded. COCO annotates hundredths of a pixel, and
normalized float32 boxes are off by less than a thousandth. Without rounding, IoUs that equal a
threshold exactly, as in COCO's own example, could fall on either side of it.
"""


def rounded(boxes: np.ndarray) -> np.ndarray:
    """Return boxes rounded to `DECIMALS`."""
    return np.round(np.asarray(boxes, np.float64), DECIMALS)


def area(boxes: np.ndarray) -> np.ndarray:
    """Return areas in pixels², float64 [...]; 0 where a box is inverted."""
    return np.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(-1)


def overlaps(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the IoU of rounded boxes, and the fraction of a's area that lies in b. Boxes
    broadcast.

    Both are float64 [...], 0 if the denominator is 0. They are quotients of integers, exact for
    images of up to 60,000 pixels a side.
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
