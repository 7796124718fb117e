"""The pipeline of classification: one class per image."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cvpipe.config.augment import AnyImage
from cvpipe.config.augment.combined import Mix
from cvpipe.config.augment.crops import ScaleCrop
from cvpipe.config.augment.geometry import Elastic, Lens
from cvpipe.config.augment.policies import AutoAugment, RandAugment
from cvpipe.config.data import Data
from cvpipe.config.label_sources import LabelSource
from cvpipe.config.loss import Loss
from cvpipe.config.model import Model
from cvpipe.config.pipeline import Config
from cvpipe.config.prepare import Prepare, TestTime
from cvpipe.config.section import Count, NonNegative, Share, misfit
from cvpipe.config.train import Export

ClassificationAugmentation = Annotated[
    AnyImage | ScaleCrop | Lens | Elastic | RandAugment | AutoAugment, Field(discriminator="op")
]


class ClassificationData(Data):
    """Source of the labeled images, and their division into splits."""

    source: LabelSource
    """The format, by its `kind`, and where the files are."""


class ClassificationPrepare(Prepare):
    """Preparation of every image, in training, evaluation and the exported artifact alike."""

    resize: Literal["stretch", "crop", "letterbox"] = "stretch"
    """stretch: to `size`, ignoring the aspect ratio. crop: keep the aspect ratio, fill `size`, take
    the center. letterbox: keep the aspect ratio, show the whole image; bars have the color of
    `mean`, or middle gray if `mean` comes from the training set.
    """


class ClassificationModel(Model):
    """The network; its number of classes comes from the data."""

    drop_connect: Share = 0.0
    """Share of the last layer's weights dropped in training (Wan et al. 2013)."""
    auxiliary: Share = 0.0
    """Weight of the auxiliary classifiers' losses, for googlenet (0.3 in Szegedy et al. 2014) or
    inception_v3; 0: no auxiliary classifiers. They are only used in training.
    """


class SoftmaxLoss(Loss):
    """Cross-entropy of the softmax of the scores."""

    kind: Literal["softmax"]
    """Kind of loss."""
    label_smoothing: Share = 0.0
    """This share of each label is spread evenly over all classes (Szegedy et al. 2015, section
    7).
    """


class HingeLoss(Loss):
    """The multiclass SVM (Weston and Watkins 1999)."""

    kind: Literal["hinge"]
    """Kind of loss."""


class SquaredHingeLoss(Loss):
    """The multiclass SVM with squared margins."""

    kind: Literal["squared_hinge"]
    """Kind of loss."""


class BinaryLoss(Loss):
    """Sum of one binary cross-entropy per class."""

    kind: Literal["binary"]
    """Kind of loss."""


class FocalLoss(Loss):
    """Binary cross-entropy with less weight on easy examples (Lin et al. 2017). As in the paper,
    the initial probability of every class is 0.01.
    """

    kind: Literal["focal"]
    """Kind of loss."""
    focal_gamma: NonNegative = 2.0
    """γ: larger values give easy examples less weight."""
    focal_alpha: Share = 0.25
    """Weight of the true class. The other classes have the weight 1 − focal_alpha."""


ClassificationLoss = Annotated[
    SoftmaxLoss | HingeLoss | SquaredHingeLoss | BinaryLoss | FocalLoss, Field(discriminator="kind")
]


class ClassificationExport(Export):
    """The SavedModel."""

    top_k: Count = 5
    """Number of most probable classes in an answer; at most the number of classes."""


class Classification(Config):
    """A pipeline that learns one class per image."""

    task: Literal["classification"]
    """Task of the pipeline."""
    data: ClassificationData
    """Source of the labeled images, and their division into splits."""
    augment: tuple[ClassificationAugmentation, ...] = ()
    """Random changes to training images, in this order."""
    mix: tuple[Mix, ...] = ()
    """Random mixing of two prepared training images. One of the operations is drawn for each
    pair.
    """
    prepare: ClassificationPrepare
    """Preparation of every image, in training, evaluation and the exported artifact alike."""
    test_time: TestTime = TestTime()
    """The views of an image whose answers are averaged, in evaluation and in the artifact."""
    model: ClassificationModel
    """The network."""
    loss: ClassificationLoss = SoftmaxLoss(kind="softmax")
    """Objective, by its `kind`."""
    export: ClassificationExport = ClassificationExport()
    """Contents and answers of the SavedModel."""

    @property
    def mixing(self) -> tuple[Mix, ...]:
        """Random mixing of two prepared training images."""
        return self.mix

    @property
    def viewing(self) -> TestTime:
        """The views of an image at test time."""
        return self.test_time

    def with_one_view(self) -> Self:
        """Return a copy with a single view of every image."""
        return self.model_copy(update={"test_time": TestTime()})

    def without_augmentation(self) -> Self:
        """Return a copy without augmentation."""
        return self.model_copy(update={"augment": (), "mix": ()})

    def random_in_training(self) -> dict[str, Any]:
        """Return the keys, with their values, that make the loss vary from step to step for the
        same weights.
        """
        return {
            **super().random_in_training(),
            "mix": self.mix,
            "model.drop_connect": self.model.drop_connect,
        }

    def output_keys(self) -> dict[str, Any]:
        """Return the kind of probabilities: those of a softmax, or of one sigmoid per class."""
        return {"loss.kind": "sigmoid" if self.has_sigmoids else "softmax"}

    @property
    def has_sigmoids(self) -> bool:
        """True if each class has a sigmoid, False if a softmax covers all classes."""
        return isinstance(self.loss, BinaryLoss | FocalLoss)

    @model_validator(mode="after")
    def _sides_reach_input_size(self) -> Self:
        longest = max(self.prepare.size)
        if (
            self.test_time.views in ("center", "ten")
            and min(self.test_time.sides, default=0) < longest
        ):
            raise misfit(
                "test_time.sides",
                f"test_time.sides must be lengths of at least {longest}, the longer side of"
                " prepare.size",
            )
        return self
