"""Augmentations, selected by `op`, and mixing of two images.

Each task lists the operations that support its annotations.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cvpipe.config.section import Count, NonNegative, Positive, Probability, Range, Section

Degrees = Annotated[float, Field(ge=0, le=180)]
Fill = Literal["constant", "reflect", "nearest"]


class Augmentation(Section):
    """A random change to a training image."""

    op: str
    """Kind of operation."""


class Flip(Augmentation):
    """Mirror left and right, or top and bottom."""

    op: Literal["flip"]
    """Kind of operation."""
    direction: Literal["horizontal", "vertical"] = "horizontal"
    """horizontal: swap left and right. vertical: swap top and bottom."""
    probability: Probability = 0.5
    """Probability of a change."""


class PadCrop(Augmentation):
    """Pad on all sides, then crop the original size at a random place (He et al. 2015, section
    4.2).
    """

    op: Literal["pad_crop"]
    """Kind of operation."""
    padding: Count = 4
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
        _check_area_aspect(self.area, self.aspect)
        return self


class ShortSideCrop(Augmentation):
    """Resize the short side to a random length, then crop the network's input at a random place (He
    et al. 2015, section 3.4).
    """

    op: Literal["short_side_crop"]
    """Kind of operation."""
    sides: tuple[Count, Count] = (256, 480)
    """Smallest and largest length of the short side in pixels, inclusive.

    The smallest must be at least the longer side of the network's input.
    """

    @model_validator(mode="after")
    def _ordered(self) -> ShortSideCrop:
        if self.sides[0] > self.sides[1]:
            raise ValueError("sides must be [smallest, largest]")
        return self


class Rotate(Augmentation):
    """Rotate around the center by a uniformly random angle."""

    op: Literal["rotate"]
    """Kind of operation."""
    degrees: Degrees = 15.0
    """Largest angle, either way."""
    fill: Fill = "constant"
    """Values for pixels from outside the image: zeros (constant), its mirror image (reflect), or
    the nearest edge pixel (nearest).
    """


class Translate(Augmentation):
    """Move by a uniformly random distance."""

    op: Literal["translate"]
    """Kind of operation."""
    share: Probability = 0.1
    """Largest distance either way, as a share of height and of width."""
    fill: Fill = "constant"
    """Values for pixels from outside the image: zeros (constant), its mirror image (reflect), or
    the nearest edge pixel (nearest).
    """


class Shear(Augmentation):
    """Shear horizontally around the center by a uniformly random angle."""

    op: Literal["shear"]
    """Kind of operation."""
    degrees: Annotated[float, Field(ge=0, le=60)] = 10.0
    """Largest angle, either way."""
    fill: Fill = "constant"
    """Values for pixels from outside the image: zeros (constant), its mirror image (reflect), or
    the nearest edge pixel (nearest).
    """


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
        _check_ordered(aspect=self.aspect)
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
    """Smallest and largest change of width / height."""

    @model_validator(mode="after")
    def _ordered(self) -> ScaleJitter:
        _check_ordered(scale=self.scale, aspect=self.aspect)
        return self


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


class Lens(Augmentation):
    """Distort like a lens: barrel or pincushion distortion by a uniformly random amount (Brown
    1966, first radial term).
    """

    op: Literal["lens"]
    """Kind of operation."""
    strength: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Largest change of scale at the corners, as a share, either way."""
    fill: Fill = "constant"
    """Values for pixels from outside the image: zeros (constant), its mirror image (reflect), or
    the nearest edge pixel (nearest).
    """


class Elastic(Augmentation):
    """Deform smoothly by random displacements on a coarse grid (Simard et al. 2003; Ronneberger et
    al. 2015, U-Net).
    """

    op: Literal["elastic"]
    """Kind of operation."""
    share: Annotated[float, Field(ge=0, le=0.2)] = 0.02
    """Standard deviation of the vertical and horizontal displacements, as a share of the image's
    shorter side (U-Net: 10 of 512 pixels).
    """
    points: Annotated[int, Field(ge=2, le=32)] = 3
    """Number of grid points along each side; fewer are smoother.

    If the displacements of adjacent points differ by more than their distance, the image folds.
    """
    fill: Fill = "constant"
    """Values for pixels from outside the image: zeros (constant), its mirror image (reflect), or
    the nearest edge pixel (nearest).
    """


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
        _check_ordered(scale=self.scale)
        return self


class BalancedScaleCrop(ScaleCrop):
    """Resize by a random factor, then crop the network's input at a random place or around a rare
    class. Smaller images get a border of the mean color, which is ignored.
    """

    balance: Probability = 0.0
    """Probability that the crop is placed around a pixel of a random class of the image, which
    shows rare classes more often.
    """


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
        _check_area_aspect(self.area, self.aspect)
        return self


class Cutout(Augmentation):
    """Cover a square around a random pixel; it may extend beyond the image (DeVries and Taylor
    2017).
    """

    op: Literal["cutout"]
    """Kind of operation."""
    size: Probability = 0.5
    """Side of the square as a share of the image's shorter side."""


class RandAugment(Augmentation):
    """A few random operations, all of the same magnitude (Cubuk et al. 2019, RandAugment)."""

    op: Literal["rand_augment"]
    """Kind of operation."""
    layers: Count = 2
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


def _check_area_aspect(area: Range, aspect: Range) -> None:
    if area[0] > area[1] or area[1] > 1:
        raise ValueError("area must be [smallest, largest] with largest at most 1")
    _check_ordered(aspect=aspect)


def _check_ordered(**ranges: Range) -> None:
    for key, (smallest, largest) in ranges.items():
        if smallest > largest:
            raise ValueError(f"{key} must be [smallest, largest]")
