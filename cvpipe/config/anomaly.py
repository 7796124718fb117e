"""The pipeline of anomaly detection."""

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
    """Source of the images, and their division into splits. Only normal images are trained on."""

    # One class, the normal images, is enough.
    least_classes: ClassVar[int] = 1

    source: DefectSource
    """The format, by its `kind`, and where the files are."""


class AnomalyPrepare(Prepare):
    """Preparation of every image, in training, evaluation and the exported artifact alike."""

    resize: Literal["stretch", "letterbox"] = "stretch"
    """stretch: to `size`, ignoring the aspect ratio. letterbox: keep the aspect ratio, show the
    whole image; bars have the color of `mean`, or middle gray if `mean` comes from the training
    set.
    """


class PatchHead(Section):
    """A head that stores the patches of normal images."""

    strides: Annotated[tuple[Stride, ...], Field(min_length=1)] = (8, 16)
    """Strides, in pixels, of the backbone's feature maps that describe a patch. Each cell of the
    map with the smallest stride is a patch.
    """
    smoothing: NonNegative = 4.0
    """Standard deviation of the Gaussian that smooths heat maps, in pixels of the network's input;
    0: no smoothing.
    """

    @model_validator(mode="after")
    def _strides_differ(self) -> Self:
        if len(set(self.strides)) < len(self.strides):
            raise ValueError(f"strides: {list(self.strides)} lists a stride twice; leave one out")
        return self


class PatchCore(PatchHead):
    """Distance from the nearest stored patch, at any position (Roth et al. 2022, PatchCore). For
    textures, and objects whose position varies.
    """

    kind: Literal["patchcore"]
    """Kind of head."""
    bank: Count = 1_000
    """Number of patches to store. They are chosen from the training set as a greedy coreset."""
    neighbors: Count = 9
    """Number of neighbors used to weight an image's score (equation 7). The denser the bank is
    around the image's most anomalous patch, the lower the score. 1: no weighting.
    """


class Padim(PatchHead):
    """Mahalanobis distance from the Gaussian of the patches at the same position (Defard et al.
    2021, PaDiM). For objects at the same position in every image.
    """

    kind: Literal["padim"]
    """Kind of head."""
    channels: Count = 100
    """Number of features used, chosen at random by the pipeline's seed. Memory grows with the
    square of this number.
    """
    regularization: Positive = 0.01
    """Added to the variance of every feature."""


class AnomalyModel(Model):
    """The network: a frozen backbone, and a head that stores features of normal images.

    Without `weights` the features are random; they distinguish textures and strokes to some extent.
    """

    head: Annotated[PatchCore | Padim, Field(discriminator="kind")]
    """Head, by its `kind`."""


class AnomalyLoss(Loss):
    """Mean distance of a batch's images from the features stored so far; only logged, not
    minimized.
    """

    kind: Literal["novelty"]
    """Kind of loss."""


class Threshold(Section):
    """Choice of the score above which an image is anomalous, on the validation split.

    If the split contains anomalies, the threshold with the highest F1 is chosen. Otherwise, it is
    chosen so that at most the share `false_alarms` of the normal images score above it.
    """

    false_alarms: Share = 0.0
    """Largest share of the normal validation images above the threshold."""
    margin: NonNegative = 0.25
    """For a split without anomalies: distance of the threshold above the highest score that isn't
    among the `false_alarms`, as a multiple of that score's distance from the median score. The
    margin allows for new normal images, which may score higher than the few of a small split.
    """


class AnomalyTrain(Train):
    """Length of the training; one epoch is enough."""

    strategy: Literal["one"] = "one"
    """Devices to train on. One is enough, because an epoch only computes features."""


class Anomaly(Config):
    """A pipeline that stores the features of normal images, and scores other images and their
    pixels by their distance from these features.

    Nothing is trained by gradients: each step stores a batch.
    """

    task: Literal["anomaly"]
    """Task of the pipeline."""
    data: AnomalyData
    """Source of the images, and their division into splits."""
    augment: tuple[Annotated[AnyImage, Field(discriminator="op")], ...] = ()
    """Random changes to training images, in this order; the changed images count as normal."""
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
    def _has_no_gradient_settings(self) -> Self:
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
                    f"{key} is for training by gradients, which the anomaly task doesn't do; leave"
                    " it out",
                )
        return self
