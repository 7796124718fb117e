"""The pipeline of localization: one class per image, and the box of its object."""

from __future__ import annotations

from typing import ClassVar, Literal

from cvpipe.config.box_sources import BoxSource
from cvpipe.config.classification import ClassificationExport
from cvpipe.config.data import Data
from cvpipe.config.detection import DetectionAugmentation
from cvpipe.config.loss import Loss
from cvpipe.config.pipeline import Config
from cvpipe.config.prepare import Prepare
from cvpipe.config.section import NonNegative, Share


class LocalizationData(Data):
    """Source of the labeled images, and their division into splits.

    Of several objects in an image, the one with the largest box is learned and scored; crowds are
    ignored. An image without an object is neither learned nor scored.
    """

    # With a single class, the box can still be learned.
    least_classes: ClassVar[int] = 1

    source: BoxSource
    """The format, by its `kind`, and where the files are."""


class LocalizationPrepare(Prepare):
    """Preparation of every image, in training, evaluation and the exported artifact alike."""

    resize: Literal["stretch", "letterbox"] = "stretch"
    """stretch: to `size`, ignoring the aspect ratio. letterbox: keep the aspect ratio, show the
    whole image; bars have the color of `mean`, or middle gray if `mean` comes from the training
    set.
    """


class LocalizationLoss(Loss):
    """Cross-entropy of the softmax of the scores, and an error of the box."""

    kind: Literal["softmax"]
    """Kind of loss."""
    label_smoothing: Share = 0.0
    """This share of each label is spread evenly over all classes (Szegedy et al. 2015, section
    7).
    """
    box: Literal["smooth_l1", "iou", "giou", "diou", "ciou"] = "smooth_l1"
    """Error of the box. smooth_l1: the error of its center and size, in tenths of the network's
    input (Girshick 2015). iou: 1 − IoU (Yu et al. 2016). giou, diou, ciou: 1 minus a generalized
    IoU, which also has a gradient for boxes that don't overlap (Rezatofighi et al. 2019; Zheng et
    al. 2019).
    """
    box_weight: NonNegative = 1.0
    """Weight of the box loss relative to the class loss."""


class Localization(Config):
    """A pipeline that learns one class per image, and the box of its object.

    The box is returned as ymin, xmin, ymax, xmax in pixels of the original image.
    """

    task: Literal["localization"]
    """Task of the pipeline."""
    data: LocalizationData
    """Source of the labeled images, and their division into splits."""
    augment: tuple[DetectionAugmentation, ...] = ()
    """Random changes to training images, in this order."""
    prepare: LocalizationPrepare
    """Preparation of every image, in training, evaluation and the exported artifact alike."""
    loss: LocalizationLoss = LocalizationLoss(kind="softmax")
    """Objective, by its `kind`."""
    export: ClassificationExport = ClassificationExport()
    """Contents and answers of the SavedModel."""
