"""Augmentations that combine several images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cvpipe.config.augment.augmentation import Augmentation
from cvpipe.config.section import Positive, Probability, Section


class Mosaic(Augmentation):
    """Join four training images around a random center (YOLOv4, Bochkovskiy et al. 2020, section
    3.3).
    """

    op: Literal["mosaic"]
    """Kind of operation."""
    probability: Probability = 0.5
    """Probability of a change."""


class CopyPaste(Augmentation):
    """Paste objects of another training image, within their boxes (after Ghiasi et al. 2020, who
    cut along masks).
    """

    op: Literal["copy_paste"]
    """Kind of operation."""
    probability: Probability = 0.5
    """Probability of a change."""
    share: Probability = 0.5
    """Probability that an object of the other image is pasted, for each object independently."""


class ObjectMixUp(Augmentation):
    """Blend two training images and keep the objects of both (Zhang et al. 2019, Bag of Freebies,
    section 3.1).
    """

    op: Literal["object_mixup"]
    """Kind of operation."""
    probability: Probability = 0.5
    """Probability of a change."""
    alpha: Positive = 1.5
    """The share of the other image is drawn from Beta(alpha, alpha)."""


class MixUp(Section):
    """Blend two images and their labels (Zhang et al. 2017)."""

    op: Literal["mixup"]
    """Kind of operation."""
    alpha: Positive = 0.2
    """The share of the second image is drawn from Beta(alpha, alpha)."""


class CutMix(Section):
    """Paste a rectangle of one image into another; weight labels by area (Yun et al. 2019)."""

    op: Literal["cutmix"]
    """Kind of operation."""
    alpha: Positive = 1.0
    """The rectangle's share of the area is drawn from Beta(alpha, alpha)."""


Mix = Annotated[MixUp | CutMix, Field(discriminator="op")]
