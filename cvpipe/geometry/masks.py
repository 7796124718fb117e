"""Label masks: uint8 [..., H, W], the class of every pixel."""

from __future__ import annotations

import numpy as np

IGNORED = 255
"""The label of pixels that are neither learned nor counted."""


def palette() -> np.ndarray:
    """A colour for every label: uint8 [256, 3], RGB.

    Pascal VOC's (Everingham et al. 2010, its development kit): the bits of a label, three at a time from the lowest, are the high bits of
    red, green and blue, so that the first classes differ most. Label 0 is black.
    """
    labels = np.arange(256)
    bits = [sum((labels >> (3 * place + colour) & 1) << (7 - place) for place in range(3)) for colour in range(3)]
    return np.stack(bits, 1).astype(np.uint8)
