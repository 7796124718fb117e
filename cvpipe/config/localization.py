"""The pipeline of localization: one class per image, and the box of its object."""

from __future__ import annotations

from typing import ClassVar, Literal

from cvpipe.config.classification import ClassificationExport
from cvpipe.config.data import BoxSource, Data
from cvpipe.config.detection import DetectionAugmentation
from cvpipe.config.loss import Loss
from cvpipe.config.pipeline import Config
from cvpipe.config.prepare import Prepare
from cvpipe.config.section import NonNegative, Share


class LocalizationData(Data):
    """Source of the labeled images, and the splits made of it.

    Of an image with several objects, the one with the largest box is learned and scored; regions of
    crowds are never taken. An image without any object is neither learned nor scored.
    """

    # The box of a single class is worth learning, too.
    least_classes: ClassVar[int] = 1

    source: BoxSource
    """The format, by its `kind`, and where the files are."""


class LocalizationPrepare(Prepare):
    """Preparation of every image, in training, evaluation and the exported artifact alike."""

    resize: Literal["stretch", "letterbox"] = "stretch"
    """stretch: to `size`, whatever the aspect. letterbox: keep the aspect, show everything in the
    middle of `size`; bars have the color of `mean`, or middle gray where the training set gives it.
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
    """Error of the box: smooth_l1, of its center and size in tenths of the network's input
    (Girshick 2015); or 1 − IoU, plain (Yu et al. 2016) or as one that also tells apart boxes that
    don't touch (Rezatofighi et al. 2019; Zheng et al. 2019).
    """
    box_weight: NonNegative = 1.0
    """Weight of the box against the class."""


class Localization(Config):
    """A pipeline that learns one class per image, and the box of its object.

    The box is answered as ymin, xmin, ymax, xmax in pixels of the original image.
    """

    task: Literal["localization"]
    """Task of the pipeline."""
    data: LocalizationData
    """Source of the labeled images, and the splits made of it."""
    augment: tuple[DetectionAugmentation, ...] = ()
    """Random changes to training images, in this order."""
    prepare: LocalizationPrepare
    """Preparation of every image, in training, evaluation and the exported artifact alike."""
    loss: LocalizationLoss = LocalizationLoss(kind="softmax")
    """Objective, by its `kind`."""
    export: ClassificationExport = ClassificationExport()
    """Contents and answers of the SavedModel."""
