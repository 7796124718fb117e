"""The pipeline of segmentation: the class of every pixel."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cvpipe.config.augment import AnyImage
from cvpipe.config.augment.crops import BalancedScaleCrop, Expand, RandomResizedCrop, ShortSideCrop
from cvpipe.config.augment.geometry import Elastic, Lens
from cvpipe.config.data import Data
from cvpipe.config.loss import Loss
from cvpipe.config.mask_sources import MaskSource
from cvpipe.config.model import Model
from cvpipe.config.pipeline import Config
from cvpipe.config.prepare import Prepare
from cvpipe.config.section import Count, NonNegative, Positive, Section, Share, misfit
from cvpipe.config.segmentation_heads import DeconvNet, SegmentationHead, SegNet
from cvpipe.config.train import Export

# Policies are left out because they don't move masks.
SegmentationAugmentation = Annotated[
    AnyImage | BalancedScaleCrop | Lens | Elastic, Field(discriminator="op")
]
# Operations that crop images to the size of the network's input.
Crop = BalancedScaleCrop | RandomResizedCrop | ShortSideCrop


class SegmentationData(Data):
    """Source of the labeled images, and their division into splits."""

    source: MaskSource
    """The format, by its `kind`, and where the files are."""


class SegmentationPrepare(Prepare):
    """Preparation of every image, in training, evaluation and the exported artifact alike."""

    resize: Literal["stretch", "letterbox", "tile"] = "stretch"
    """stretch: to `size`, ignoring the aspect ratio. letterbox: keep the aspect ratio, show the
    whole image; bars have the color of `mean`, or middle gray if `mean` comes from the training
    set. tile: segment images of any size without resizing, in tiles of `size`; training needs crops
    of `size`, for example by op: scale_crop. crop isn't available; it would cut off objects.
    """
    overlap: Count = 64
    """For tile: overlap of neighboring tiles in pixels; tiles are blended there. At most half of
    `size`. If `size` − overlap is a multiple of the coarsest stride, such as 32, the cells of all
    tiles' feature maps line up.
    """

    @model_validator(mode="after")
    def _overlap_is_at_most_half(self) -> Self:
        if self.resize == "tile" and 2 * self.overlap > min(self.size):
            raise ValueError(
                f"overlap: {self.overlap} is more than half of the tiles' size, {min(self.size)};"
                " give less"
            )
        return self


class SegmentationModel(Model):
    """The network; its number of classes comes from the data."""

    styled_head: ClassVar[bool] = True

    head: SegmentationHead
    """Head that predicts the class of every pixel, by its `kind`."""

    @model_validator(mode="after")
    def _mirrors_vgg16(self) -> Self:
        if isinstance(self.head, SegNet | DeconvNet) and self.backbone != "vgg16":
            raise ValueError(
                f"head: {self.head.kind} mirrors VGG16; set backbone to vgg16, or take head fcn or"
                f" unet for {self.backbone}"
            )
        return self


class DiceLoss(Loss):
    """1 − the soft Dice coefficient over the classes in an image (Milletari et al. 2016)."""

    kind: Literal["dice"]
    """Kind of loss."""


class PixelLoss(Loss):
    """A mean over the pixels of an image."""

    class_weights: tuple[Positive, ...] = ()
    """Weight of the pixels of each class, in the order of the classes; equal by default."""
    dice_weight: NonNegative = 0.0
    """Weight of an additional Dice loss."""
    hard_pixels: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of each image's pixels that enter the loss: those with the highest loss."""


class PixelSoftmaxLoss(PixelLoss):
    """The mean over pixels of the cross-entropy of the softmax."""

    kind: Literal["softmax"]
    """Kind of loss."""
    label_smoothing: Share = 0.0
    """This share of each label is spread evenly over all classes (Szegedy et al. 2015, section
    7).
    """


class PixelFocalLoss(PixelLoss):
    """The mean over pixels of −(1 − p)^γ ln p, where p is the softmax's probability of the true
    class (after Lin et al. 2017).
    """

    kind: Literal["focal"]
    """Kind of loss."""
    focal_gamma: NonNegative = 2.0
    """γ: larger values give easy pixels less weight."""


SegmentationLoss = Annotated[
    PixelSoftmaxLoss | PixelFocalLoss | DiceLoss, Field(discriminator="kind")
]


class SegmentationTestTime(Section):
    """Test-time augmentation, in evaluation and in the exported model: predictions for several
    views of an image or tile are averaged.
    """

    views: Literal["one", "mirrored", "flipped"] = "one"
    """mirrored: the image and its mirror image. flipped: these two, and both upside down, for
    images without an up direction, such as aerial photos. Time grows with the number of views.
    """


class SegmentationExport(Export):
    """The SavedModel."""

    png: tuple[Literal["mask", "overlay"], ...] = ()
    """Additional PNG outputs of `serving_default` in the image's size. mask: mask_bytes, with the
    class id of each pixel as its gray value. overlay: overlay_bytes, the image with the colors of
    its classes on top.
    """


class Segmentation(Config):
    """A pipeline that learns the class of every pixel."""

    task: Literal["segmentation"]
    """Task of the pipeline."""
    data: SegmentationData
    """Source of the labeled images, and their division into splits."""
    augment: tuple[SegmentationAugmentation, ...] = ()
    """Random changes to training images, in this order."""
    prepare: SegmentationPrepare
    """Preparation of every image, in training, evaluation and the exported artifact alike."""
    test_time: SegmentationTestTime = SegmentationTestTime()
    """The views of an image whose answers are averaged, in evaluation and in the artifact."""
    model: SegmentationModel
    """The network."""
    loss: SegmentationLoss = PixelSoftmaxLoss(kind="softmax")
    """Objective, by its `kind`."""
    export: SegmentationExport = SegmentationExport()
    """Contents and answers of the SavedModel."""

    def with_one_view(self) -> Self:
        """Return a copy with a single view of whole images, even with tiles."""
        if self.prepare.resize != "tile":
            return self
        prepare = self.prepare.model_copy(update={"resize": "stretch"})
        return self.model_copy(update={"prepare": prepare})

    def output_keys(self) -> dict[str, Any]:
        """Return the key of the outputs' size."""
        return {"model.head.output_stride": self.model.head.output_stride}

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
        # Apart from crops, only Expand changes an image's size.
        for number, op in enumerate(self.augment):
            if isinstance(op, Expand) and number > crops[-1]:
                raise misfit(
                    f"augment.{number}",
                    f"augment.{number}: expand makes images larger than the crops that"
                    f" prepare.resize: tile needs; put it before op: {self.augment[crops[-1]].op}",
                )
        return self
