"""Augmentations, selected by `op`, and mixing of two images.

Each task lists the operations that support its annotations.
"""

from __future__ import annotations

from cvpipe.config.augment.color import ColorJitter, Cutout, Erase, Grayscale, PcaLighting
from cvpipe.config.augment.crops import (
    Expand,
    PadCrop,
    RandomResizedCrop,
    ScaleJitter,
    ShortSideCrop,
)
from cvpipe.config.augment.geometry import Flip, Rotate, Shear, Translate

# Operations for images with any annotations.
AnyImage = (
    Flip
    | PadCrop
    | RandomResizedCrop
    | ShortSideCrop
    | Rotate
    | Translate
    | Shear
    | Expand
    | ScaleJitter
    | ColorJitter
    | PcaLighting
    | Grayscale
    | Erase
    | Cutout
)
