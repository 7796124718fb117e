"""Augmentations that change colors or cover regions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cvpipe.config.augment.augmentation import Augmentation, check_area_aspect
from cvpipe.config.section import NonNegative, Probability, Range


class ColorJitter(Augmentation):
    """Change brightness, contrast, saturation and hue, in this order, each by a uniformly random
    amount.
    """

    op: Literal["color_jitter"]
    """Kind of operation."""
    brightness: Probability = 0.0
    """Brightness is multiplied by a factor from 1 − b to 1 + b."""
    contrast: Probability = 0.0
    """Contrast is multiplied by a factor from 1 − c to 1 + c, around the image's mean gray."""
    saturation: Probability = 0.0
    """Saturation is multiplied by a factor from 1 − s to 1 + s; color images only."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Hue is rotated by −h to +h of the full circle; color images only."""


class PcaLighting(Augmentation):
    """Add multiples of the principal components of the training set's colors (Krizhevsky et al.
    2012, section 4.1).
    """

    op: Literal["pca_lighting"]
    """Kind of operation."""
    std: NonNegative = 0.1
    """Standard deviation of the random factors."""


class Grayscale(Augmentation):
    """Convert to gray, with the same number of channels."""

    op: Literal["grayscale"]
    """Kind of operation."""
    probability: Probability = 0.1
    """Probability of a change."""


class Erase(Augmentation):
    """Cover a rectangle of random area and aspect ratio (random erasing, Zhong et al. 2017)."""

    op: Literal["erase"]
    """Kind of operation."""
    probability: Probability = 0.5
    """Probability of a change."""
    area: Range = (0.02, 0.4)
    """Smallest and largest share of the image's area."""
    aspect: Range = (0.3, 10 / 3)
    """Smallest and largest width / height."""
    fill: Literal["zeros", "mean", "noise"] = "noise"
    """Cover with black, with the image's mean color, or with random pixels."""

    @model_validator(mode="after")
    def _ordered(self) -> Erase:
        check_area_aspect(self.area, self.aspect)
        return self


class Cutout(Augmentation):
    """Cover a square around a random pixel. The square may extend beyond the image (DeVries and
    Taylor 2017).
    """

    op: Literal["cutout"]
    """Kind of operation."""
    size: Probability = 0.5
    """Side of the square as a share of the image's shorter side."""
