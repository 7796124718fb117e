"""The pipeline of segmentation: the class of every pixel."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cvpipe.config.augment import (
    AnyImage,
    BalancedScaleCrop,
    Elastic,
    Expand,
    Lens,
    RandomResizedCrop,
    ShortSideCrop,
)
from cvpipe.config.data import Data, MaskSource
from cvpipe.config.loss import Loss
from cvpipe.config.model import Model
from cvpipe.config.pipeline import Config
from cvpipe.config.prepare import Prepare
from cvpipe.config.section import Count, NonNegative, Positive, Share, misfit
from cvpipe.config.segmentation_heads import DeconvNet, SegmentationHead, SegNet
from cvpipe.config.train import Export

# Policies choose their operations while the graph runs and move no masks: there is none here.
SegmentationAugmentation = Annotated[
    AnyImage | BalancedScaleCrop | Lens | Elastic, Field(discriminator="op")
]
# The operations whose images have the network's input size.
Crop = BalancedScaleCrop | RandomResizedCrop | ShortSideCrop


class SegmentationData(Data):
    """Source of the labeled images, and the splits made of it."""

    source: MaskSource
    """The format, by its `kind`, and where the files are."""


class SegmentationPrepare(Prepare):
    """Preparation of every image, in training, evaluation and the exported artifact alike."""

    resize: Literal["stretch", "letterbox", "tile"] = "stretch"
    """stretch: to `size`, whatever the aspect. letterbox: keep the aspect, show everything in the
    middle of `size`; what is left over has the color of `mean`, or middle gray where the training
    set gives it. tile: answer images of any size as they are, in tiles of `size`; training crops
    them, by op: scale_crop. There is no crop, which would cut objects off.
    """
    overlap: Count = 64
    """For tile: pixels that neighboring tiles have in common; they fade into each other. At most
    half of `size`; where `size` less this is a multiple of the coarsest stride, such as 32, all
    tiles are seen alike.
    """

    @model_validator(mode="after")
    def _tiles_reach_further_than_they_overlap(self) -> Self:
        if self.resize == "tile" and 2 * self.overlap > min(self.size):
            raise ValueError(
                f"overlap: {self.overlap} is more than half of the tiles' size, {min(self.size)};"
                " give less"
            )
        return self


class SegmentationModel(Model):
    """The network; its number of classes comes from the data."""

    head: SegmentationHead
    """Head that tells the class of every pixel from the backbone's feature maps, by its `kind`."""

    @model_validator(mode="after")
    def _mirrors_vgg16(self) -> Self:
        if isinstance(self.head, SegNet | DeconvNet) and self.backbone != "vgg16":
            raise ValueError(
                f"head: {self.head.kind} mirrors VGG16; set backbone to vgg16, or take head fcn or"
                f" unet for {self.backbone}"
            )
        return self


class DiceLoss(Loss):
    """1 − the soft Dice coefficient over the classes an image shows (Milletari et al. 2016)."""

    kind: Literal["dice"]
    """Kind of loss."""


class PixelLoss(Loss):
    """A mean over the pixels of an image."""

    class_weights: tuple[Positive, ...] = ()
    """Weight of a pixel of each class, in the order of the classes; all the same by default."""
    dice_weight: NonNegative = 0.0
    """So many times the Dice loss is added."""
    hard_pixels: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of each image's pixels that is learned from, those that cost most."""


class PixelSoftmaxLoss(PixelLoss):
    """The mean over pixels of the cross-entropy of the softmax."""

    kind: Literal["softmax"]
    """Kind of loss."""
    label_smoothing: Share = 0.0
    """This share of each label is spread evenly over all classes (Szegedy et al. 2015, section
    7).
    """


class PixelFocalLoss(PixelLoss):
    """The mean over pixels of −(1 − p)^γ ln p of the softmax's p (after Lin et al. 2017)."""

    kind: Literal["focal"]
    """Kind of loss."""
    focal_gamma: NonNegative = 2.0
    """γ: the larger, the less an easy pixel weighs."""


SegmentationLoss = Annotated[
    PixelSoftmaxLoss | PixelFocalLoss | DiceLoss, Field(discriminator="kind")
]


class SegmentationExport(Export):
    """The SavedModel."""

    png: tuple[Literal["mask", "overlay"], ...] = ()
    """Pictures that `serving_default` answers too, PNG files in the image's size. mask: mask_bytes,
    the label of each pixel as a shade of gray. overlay: overlay_bytes, the image under the colors
    of its classes.
    """


class Segmentation(Config):
    """A pipeline that learns the class of every pixel."""

    task: Literal["segmentation"]
    """Task of the pipeline."""
    data: SegmentationData
    """Source of the labeled images, and the splits made of it."""
    augment: tuple[SegmentationAugmentation, ...] = ()
    """Random changes to training images, in this order."""
    prepare: SegmentationPrepare
    """Preparation of every image, in training, evaluation and the exported artifact alike."""
    model: SegmentationModel
    """The network."""
    loss: SegmentationLoss = PixelSoftmaxLoss(kind="softmax")
    """Objective, by its `kind`."""
    export: SegmentationExport = SegmentationExport()
    """Contents and answers of the SavedModel."""

    def with_one_view(self) -> Self:
        """Return a copy that shows an image whole, even if it is answered in tiles."""
        if self.prepare.resize != "tile":
            return self
        prepare = self.prepare.model_copy(update={"resize": "stretch"})
        return self.model_copy(update={"prepare": prepare})

    @model_validator(mode="after")
    def _tiles_are_cropped_in_training(self) -> Self:
        if self.prepare.resize != "tile":
            return self
        crops = [number for number, op in enumerate(self.augment) if isinstance(op, Crop)]
        if not crops:
            raise misfit(
                "prepare.resize",
                "prepare.resize: tile needs images cropped in training; add op: scale_crop to"
                " augment",
            )
        # Apart from crops, Expand is the one operation that changes an image's size.
        for number, op in enumerate(self.augment):
            if isinstance(op, Expand) and number > crops[-1]:
                raise misfit(
                    f"augment.{number}",
                    f"augment.{number}: expand makes images larger than the crops that"
                    f" prepare.resize: tile needs; put it before op: {self.augment[crops[-1]].op}",
                )
        return self
