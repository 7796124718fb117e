"""Random operations by a policy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cvpipe.config.augment.augmentation import Augmentation
from cvpipe.config.section import Repeats


class RandAugment(Augmentation):
    """A few random operations, all of the same magnitude (Cubuk et al. 2019, RandAugment)."""

    op: Literal["rand_augment"]
    """Kind of operation."""
    layers: Repeats = 2
    """Number of operations per image, drawn with replacement; N in the paper."""
    magnitude: Annotated[float, Field(ge=0, le=30)] = 9.0
    """Strength of the operations; M in the paper. 10 is the upper end of AutoAugment's ranges;
    larger values exceed them.
    """


class AutoAugment(Augmentation):
    """A policy found by search: pairs of operations with probabilities and magnitudes (Cubuk et al.
    2018, AutoAugment).
    """

    op: Literal["auto_augment"]
    """Kind of operation."""
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"
    """Data set for which the policy was found (the paper's appendix). Magnitudes are as in the
    authors' code for that data set: a higher level solarizes and posterizes less with imagenet, and
    more with cifar10 and svhn.
    """
