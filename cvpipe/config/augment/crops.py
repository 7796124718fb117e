"""Random crops, and changes of scale."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cvpipe.config.augment.augmentation import Augmentation, check_area_aspect, check_ordered
from cvpipe.config.section import Length, Probability, Range


class PadCrop(Augmentation):
    """Pad on all sides, then crop the original size at a random place (He et al. 2015, section
    4.2).
    """

    op: Literal["pad_crop"]
    """Kind of operation."""
    padding: Length = 4
    """Pixels of the source image added on each side."""
    mode: Literal["constant", "reflect"] = "constant"
    """Pad with zeros, or with the mirrored image."""


class RandomResizedCrop(Augmentation):
    """Crop a random area and aspect ratio, resized to the network's input (Szegedy et al. 2014,
    section 6).
    """

    op: Literal["random_resized_crop"]
    """Kind of operation."""
    area: Range = (0.08, 1.0)
    """Smallest and largest share of the image's area."""
    aspect: Range = (0.75, 4 / 3)
    """Smallest and largest width / height."""

    @model_validator(mode="after")
    def _ordered(self) -> RandomResizedCrop:
        check_area_aspect(self.area, self.aspect)
        return self


class ShortSideCrop(Augmentation):
    """Resize the short side to a random length, then crop the network's input at a random place (He
    et al. 2015, section 3.4).
    """

    op: Literal["short_side_crop"]
    """Kind of operation."""
    sides: tuple[Length, Length] = (256, 480)
    """Smallest and largest length of the short side in pixels, inclusive.

    The smallest must be at least the longer side of the network's input.
    """

    @model_validator(mode="after")
    def _ordered(self) -> ShortSideCrop:
        if self.sides[0] > self.sides[1]:
            raise ValueError("sides must be [smallest, largest]")
        return self


class Expand(Augmentation):
    """Put the image onto a larger canvas of its mean color, so that objects look smaller (SSD, Liu
    et al. 2015, section 3.6).
    """

    op: Literal["expand"]
    """Kind of operation."""
    probability: Probability = 0.5
    """Probability of a change."""
    ratio: Annotated[float, Field(ge=1, le=8)] = 4.0
    """Largest ratio of the canvas's height and width to the image's."""


class IouCrop(Augmentation):
    """Crop a patch whose IoU with an object reaches a randomly chosen minimum (SSD, Liu et al.
    2015, section 2.2, "Data augmentation").

    Each of `ious`, a patch of any IoU, and the whole image are equally likely. If no patch reaches
    the chosen IoU, the choice is made again. Objects with their center in the patch are kept.
    """

    op: Literal["iou_crop"]
    """Kind of operation."""
    ious: tuple[Probability, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    """Minimum IoUs of a patch with one of the objects."""
    scale: Range = (0.3, 1.0)
    """Smallest and largest share of the image's height, and of its width."""
    aspect: Range = (0.5, 2.0)
    """Smallest and largest width / height of a patch."""

    @model_validator(mode="after")
    def _ordered(self) -> IouCrop:
        if self.scale[0] > self.scale[1] or self.scale[1] > 1:
            raise ValueError("scale must be [smallest, largest] with largest at most 1")
        check_ordered(aspect=self.aspect)
        return self


class ScaleJitter(Augmentation):
    """Resize by a random factor and aspect ratio, then crop or pad with the mean color to the
    original size (Redmon and Farhadi 2018).
    """

    op: Literal["scale_jitter"]
    """Kind of operation."""
    scale: Range = (0.5, 2.0)
    """Smallest and largest factor; halving is as likely as doubling."""
    aspect: Range = (0.75, 4 / 3)
    """Smallest and largest factor applied to width / height."""

    @model_validator(mode="after")
    def _ordered(self) -> ScaleJitter:
        check_ordered(scale=self.scale, aspect=self.aspect)
        return self


class ScaleCrop(Augmentation):
    """Resize by a random factor, then crop the network's input at a random place. Smaller images
    get a border of the mean color.
    """

    op: Literal["scale_crop"]
    """Kind of operation."""
    scale: Range = (0.5, 2.0)
    """Smallest and largest factor; halving is as likely as doubling."""

    @model_validator(mode="after")
    def _ordered(self) -> ScaleCrop:
        check_ordered(scale=self.scale)
        return self


class BalancedScaleCrop(ScaleCrop):
    """Resize by a random factor, then crop the network's input at a random place or around a rare
    class. Smaller images get a border of the mean color, which is ignored.
    """

    balance: Probability = 0.0
    """Probability that the crop is placed around a pixel of a random class of the image, which
    shows rare classes more often.
    """
