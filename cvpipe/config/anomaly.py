"""The pipeline of anomaly detection: what differs from normal images, and where."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cvpipe.config.augment import AnyImage
from cvpipe.config.data import Data
from cvpipe.config.defect_sources import DefectSource
from cvpipe.config.loss import Loss
from cvpipe.config.model import Model
from cvpipe.config.optimizer import Constant, Sgd
from cvpipe.config.pipeline import Config
from cvpipe.config.prepare import Prepare
from cvpipe.config.section import Count, NonNegative, Positive, Section, Share, misfit
from cvpipe.config.train import Train

Stride = Literal[2, 4, 8, 16, 32]


class AnomalyData(Data):
    """Source of the images, and the splits made of it. Only normal images are learned."""

    # The one that is normal.
    least_classes: ClassVar[int] = 1

    source: DefectSource
    """The format, by its `kind`, and where the files are."""


class AnomalyPrepare(Prepare):
    """Preparation of every image, in training, evaluation and the exported artifact alike."""

    resize: Literal["stretch", "letterbox"] = "stretch"
    """stretch: to `size`, whatever the aspect. letterbox: keep the aspect, show everything in the
    middle of `size`; bars have the color of `mean`, or middle gray where the training set gives it.
    """


class PatchHead(Section):
    """A memory of the patches of normal images."""

    strides: Annotated[tuple[Stride, ...], Field(min_length=1)] = (8, 16)
    """Maps of the backbone whose features a patch has, by the pixels between two of their cells.
    Patches are as far apart as the cells of the finest.
    """
    smoothing: NonNegative = 4.0
    """Standard deviation of the Gaussian that smooths heat maps, pixels of the network's input; 0
    for none.
    """

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if len(set(self.strides)) < len(self.strides):
            raise ValueError(f"strides: {list(self.strides)} names a map twice; leave one out")
        return self


class PatchCore(PatchHead):
    """Distance from the nearest of some remembered patches, wherever they were seen (Roth et al.
    2022, PatchCore). For objects and textures in any place.
    """

    kind: Literal["patchcore"]
    """Kind of head."""
    bank: Count = 1_000
    """Patches that are remembered: a greedy coreset of all that were seen."""
    neighbors: Count = 9
    """The score of an image is lower where the bank is crowded around its strangest patch; patches
    that tell how crowded (equation 7). 1: the distance alone.
    """


class Padim(PatchHead):
    """Mahalanobis distance from the Gaussian of the patches at the same place (Defard et al. 2021,
    PaDiM). For objects that lie in the same place in every image.
    """

    kind: Literal["padim"]
    """Kind of head."""
    channels: Count = 100
    """Features that are kept, chosen at random by the pipeline's seed. Memory grows with its
    square.
    """
    regularization: Positive = 0.01
    """Added to the variance of every feature."""


class AnomalyModel(Model):
    """The network: a backbone that stays as it is, and a memory of what it says of normal images.

    Without `weights` its features are random, which tell textures and strokes apart to some extent.
    """

    head: Annotated[PatchCore | Padim, Field(discriminator="kind")]
    """Memory of normal images, by its `kind`."""


class AnomalyLoss(Loss):
    """The mean distance of training images before they are taken in, for the log; nothing descends
    it.
    """

    kind: Literal["novelty"]
    """Kind of loss."""


class Threshold(Section):
    """Choice of the score above which an image is anomalous, on the validation split.

    If it has anomalies, it is the threshold of the highest F1. Otherwise it lies above the scores
    of all normal images but `false_alarms`.
    """

    false_alarms: Share = 0.0
    """Share of the normal validation images that may be taken for anomalies."""
    margin: NonNegative = 0.25
    """Distance of the threshold from the highest score it lies above, as a share of that score's
    distance from the median: other normal images may score higher than those of a small split.
    """


class AnomalyTrain(Train):
    """Length of the training; one pass sees all."""

    strategy: Literal["one"] = "one"
    """Devices to train on: one, since a pass over frozen features takes seconds."""


class Anomaly(Config):
    """A pipeline that learns normal images, and scores how far others, and each of their pixels,
    are from them.

    Nothing is trained by gradients: each step takes a batch into the memory.
    """

    task: Literal["anomaly"]
    """Task of the pipeline."""
    data: AnomalyData
    """Source of the images, and the splits made of it."""
    augment: tuple[Annotated[AnyImage, Field(discriminator="op")], ...] = ()
    """Random changes to training images, in this order; what they make is normal, too."""
    prepare: AnomalyPrepare
    """Preparation of every image, in training, evaluation and the exported artifact alike."""
    model: AnomalyModel
    """The network."""
    loss: AnomalyLoss = AnomalyLoss(kind="novelty")
    """Objective, by its `kind`; only logged."""
    optimizer: Sgd = Sgd(kind="sgd")
    """Unused; leave it out."""
    threshold: Threshold = Threshold()
    """Choice of the score above which an image is anomalous."""
    train: AnomalyTrain
    """Length and checkpoints of the training."""

    @model_validator(mode="after")
    def _nothing_descends(self) -> Self:
        train, model = self.train, self.model
        unused: dict[str, Any] = {
            "optimizer": self.optimizer != Sgd(kind="sgd"),
            "schedule": self.schedule != Constant(kind="constant"),
            "loss.l1": self.loss.l1,
            "loss.l2": self.loss.l2,
            "model.freeze": model.freeze != "none",
            "model.freeze_norms": model.freeze_norms,
            "model.dropout": model.dropout,
            "model.stochastic_depth": model.stochastic_depth,
            "train.accumulate": train.accumulate > 1,
            "train.clip_norm": train.clip_norm,
            "train.clip_value": train.clip_value,
            "train.ema": train.ema,
            "train.teacher": train.teacher,
            "train.adversarial": train.adversarial,
            "train.histograms": train.histograms,
        }
        for key, given in unused.items():
            if given:
                raise misfit(
                    key,
                    f"{key} is for training by gradients; task: anomaly takes images into a memory"
                    " instead; leave it out",
                )
        return self
