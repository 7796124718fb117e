"""The pipeline of detection: classes and boxes of objects."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cvpipe.config.augment import AnyImage
from cvpipe.config.augment.combined import CopyPaste, Mosaic, ObjectMixUp
from cvpipe.config.augment.crops import IouCrop, ScaleCrop
from cvpipe.config.box_sources import BoxSource
from cvpipe.config.data import Data
from cvpipe.config.detection_heads import DetectionHead, Ssd, YoloV1
from cvpipe.config.loss import Loss
from cvpipe.config.model import Model
from cvpipe.config.pipeline import Config
from cvpipe.config.prepare import Prepare
from cvpipe.config.section import Count, NonNegative, Share, misfit

# Deformations are left out because boxes can't follow them, and policies because they don't move
# annotations.
DetectionAugmentation = Annotated[
    AnyImage | ScaleCrop | IouCrop | Mosaic | CopyPaste | ObjectMixUp, Field(discriminator="op")
]


class DetectionData(Data):
    """Source of the labeled images, and their division into splits."""

    least_classes: ClassVar[int] = 1

    source: BoxSource
    """The format, by its `kind`, and where the files are."""
    max_objects: Count = 100
    """Largest number of objects per image. Further objects, in the order of the annotations, are
    left out and reported.
    """

    @property
    def most_objects(self) -> int | None:
        """Largest number of objects per image."""
        return self.max_objects


class DetectionPrepare(Prepare):
    """Preparation of every image, in training, evaluation and the exported artifact alike."""

    resize: Literal["stretch", "letterbox"] = "stretch"
    """stretch: to `size`, ignoring the aspect ratio. letterbox: keep the aspect ratio, show the
    whole image; bars have the color of `mean`, or middle gray if `mean` comes from the training
    set. crop isn't available, because it would cut off objects.
    """


class DetectionModel(Model):
    """The network; its number of classes comes from the data."""

    styled_head: ClassVar[bool] = True

    head: DetectionHead
    """Head that predicts boxes from the backbone's feature maps, by its `kind`."""

    @model_validator(mode="after")
    def _dropout_has_a_place(self) -> Self:
        if self.dropout and not isinstance(self.head, YoloV1):
            raise misfit(
                "model.dropout",
                f"model.dropout does nothing with model.head: {self.head.kind}, which has no"
                " dropout; leave it out, or choose head yolo_v1",
            )
        return self


class BoxLoss(Loss):
    """A loss of boxes and their classes."""

    box: Literal["offsets", "giou", "diou", "ciou"] = "offsets"
    """Error of a box. offsets: the error of its coordinates, as in the head's paper (smooth L1 for
    ssd; squares for yolo_v1; for yolo_v2 and yolo_v3 a cross-entropy of the center, and squares of
    the logarithms of the size). giou, diou, ciou: 1 minus a generalized IoU, which also has a
    gradient for boxes that don't overlap (Rezatofighi et al. 2019; Zheng et al. 2019).
    """
    box_weight: NonNegative = 1.0
    """Weight of the box loss relative to the class loss."""


class MultiboxLoss(BoxLoss):
    """SSD's cross-entropy of a softmax over the classes and background (Liu et al. 2015)."""

    kind: Literal["multibox"]
    """Kind of loss."""
    negatives: NonNegative = 3.0
    """Number of hardest negative boxes per positive box."""


class FocalBoxLoss(BoxLoss):
    """One binary cross-entropy per class, with less weight on easy boxes (Lin et al. 2017)."""

    kind: Literal["focal"]
    """Kind of loss."""
    focal_gamma: NonNegative = 2.0
    """γ: larger values give easy boxes less weight."""
    focal_alpha: Share = 0.25
    """Weight of the true class. The other classes have the weight 1 − focal_alpha."""


class YoloLoss(BoxLoss):
    """The loss of the head's paper (Redmon et al. 2015; Redmon and Farhadi 2016, 2018)."""

    kind: Literal["yolo"]
    """Kind of loss."""
    empty_weight: NonNegative | None = None
    """Weight of boxes without an object in the objectness loss. null: 0.5 for yolo_v1, 1 for
    yolo_v2 and yolo_v3, as in the authors' paper and code. Boxes with an object have the weight 1,
    or 5 for yolo_v2.
    """


SsdLoss = MultiboxLoss | FocalBoxLoss
DetectionLoss = Annotated[SsdLoss | YoloLoss, Field(discriminator="kind")]


class Detection(Config):
    """A pipeline that finds objects, their classes and boxes.

    Boxes are returned as ymin, xmin, ymax, xmax in pixels of the original image.
    """

    task: Literal["detection"]
    """Task of the pipeline."""
    data: DetectionData
    """Source of the labeled images, and their division into splits."""
    augment: tuple[DetectionAugmentation, ...] = ()
    """Random changes to training images, in this order."""
    prepare: DetectionPrepare
    """Preparation of every image, in training, evaluation and the exported artifact alike."""
    model: DetectionModel
    """The network."""
    loss: DetectionLoss
    """Objective, by its `kind`: multibox or focal for an ssd head, yolo for the others."""

    def output_keys(self) -> dict[str, Any]:
        """Return the keys of the boxes' places and sizes, and the kind of probabilities."""
        of_head = self.model.head.output_keys().items()
        return {
            **{f"model.head.{key}": value for key, value in of_head},
            "loss.kind": self.loss.kind,
        }

    @model_validator(mode="after")
    def _loss_fits_head(self) -> Self:
        head = self.model.head
        if isinstance(head, Ssd) == isinstance(self.loss, YoloLoss):
            choice = "multibox or focal" if isinstance(head, Ssd) else "yolo"
            raise misfit(
                "loss.kind",
                f"loss.kind: {self.loss.kind} doesn't go with model.head: {head.kind}; choose"
                f" {choice}",
            )
        return self
