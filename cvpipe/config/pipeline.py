"""The common base of all pipelines: the keys that the core uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from cvpipe.config.augment.augmentation import Augmentation
from cvpipe.config.augment.combined import Mix
from cvpipe.config.augment.crops import ShortSideCrop
from cvpipe.config.data import Data
from cvpipe.config.loss import Loss
from cvpipe.config.model import Model
from cvpipe.config.optimizer import Constant, Lbfgs, Optimizer, Restarts, Schedule
from cvpipe.config.prepare import Prepare, TestTime
from cvpipe.config.section import Section, Seed, misfit
from cvpipe.config.train import Export, Train
from cvpipe.models.catalog import NETWORKS, application_of


class Config(Section):
    """A pipeline, which defines one experiment. Each task has a subclass that narrows the keys."""

    task: str
    """Task of the pipeline."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Name of the run and the served model; by default the name of the file."""
    seed: Seed = 0
    """Random seed of weights, order and augmentation. The same seed gives the same bits."""
    data: Data
    """Source of the labeled images, and their division into splits."""
    augment: tuple[Augmentation, ...] = ()
    """Random changes to training images, in this order."""
    prepare: Prepare
    """Preparation of every image, in training, evaluation and the exported artifact alike."""
    model: Model
    """The network."""
    loss: Loss
    """Objective, by its `kind`."""
    optimizer: Optimizer
    """Optimizer, by its `kind`."""
    schedule: Schedule = Constant(kind="constant")
    """Schedule of the learning rate, by its `kind`."""
    train: Train
    """Length, devices and checkpoints of the training."""
    export: Export = Export()
    """Contents and answers of the SavedModel."""

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        """The optimizers by name; a task of several networks may have several."""
        return {"optimizer": self.optimizer}

    @property
    def mixing(self) -> tuple[Mix, ...]:
        """Random mixing of two prepared training images; none unless the task supports it."""
        return ()

    @property
    def viewing(self) -> TestTime:
        """The views of an image at test time; one unless the task has more."""
        return TestTime()

    def with_one_view(self) -> Self:
        """Return a copy with a single view of every whole image."""
        return self

    def without_augmentation(self) -> Self:
        """Return a copy without augmentation."""
        return self.model_copy(update={"augment": ()})

    def random_in_training(self) -> dict[str, Any]:
        """Return the keys, with their values, that can make the loss vary from step to step for the
        same weights. Keys with false values have no such effect.
        """
        network = NETWORKS.get(self.model.backbone)
        return {
            "model.backbone": network is not None and network.random,
            "augment": self.augment,
            "model.dropout": self.model.dropout,
            "model.stochastic_depth": self.model.stochastic_depth,
            "model.drop_path": self.model.drop_path,
        }

    def output_keys(self) -> dict[str, Any]:
        """Return the keys that determine the form and meaning of the network's outputs, apart from
        the data and `prepare`. Outputs of pipelines with equal values can be compared and averaged.
        """
        return {}

    def to_json(self) -> dict[str, Any]:
        """Return the whole configuration, defaults included, as plain JSON values."""
        return self.model_dump(mode="json")

    @model_validator(mode="after")
    def _warm_up_fits(self) -> Self:
        if self.schedule.warmup_epochs >= self.train.epochs:
            raise misfit(
                "schedule.warmup_epochs",
                f"schedule.warmup_epochs ({self.schedule.warmup_epochs:g}) must be below"
                f" train.epochs ({self.train.epochs})",
            )
        return self

    @model_validator(mode="after")
    def _crops_reach_input_size(self) -> Self:
        longest = max(self.prepare.size)
        for number, op in enumerate(self.augment):
            if isinstance(op, ShortSideCrop) and op.sides[0] < longest:
                raise misfit(
                    f"augment.{number}.sides",
                    f"augment.{number}.sides must be at least {longest}, the longer side of"
                    " prepare.size",
                )
        return self

    @model_validator(mode="after")
    def _keras_gets_raw_pixels(self) -> Self:
        if application_of(self.model.backbone) and (
            self.prepare.normalize != "given" or self.prepare.scaling != ((0.0,), (1.0,))
        ):
            raise misfit(
                "prepare.mean",
                f"prepare.mean must be [0] and prepare.std [1] for {self.model.backbone}, which"
                " includes the preprocessing that its weights need",
            )
        return self

    @model_validator(mode="after")
    def _normalization_fits_weights(self) -> Self:
        weights, normalize = self.model.weights, self.prepare.normalize
        if normalize == "weights" and weights is None:
            raise misfit(
                "prepare.normalize",
                "prepare.normalize: weights uses the normalization that model.weights were trained"
                " with; set model.weights, or choose another normalize",
            )
        packaged = weights == "imagenet" and not application_of(self.model.backbone)
        if packaged and normalize != "weights":
            raise misfit(
                "prepare.normalize",
                "prepare.normalize must be weights for model.weights: imagenet, which includes the"
                " mean and std of its training images; leave prepare.mean and prepare.std out",
            )
        return self

    @model_validator(mode="after")
    def _unfreezes_before_the_end(self) -> Self:
        epochs = self.model.freeze_epochs
        if epochs is not None and epochs >= self.train.epochs:
            raise misfit(
                "model.freeze_epochs",
                f"model.freeze_epochs ({epochs:g}) must be below train.epochs"
                f" ({self.train.epochs}); leave it out to keep layers frozen to the end",
            )
        return self

    @model_validator(mode="after")
    def _lbfgs_loss_is_repeatable(self) -> Self:
        if not any(isinstance(optimizer, Lbfgs) for optimizer in self.optimizers.values()):
            return self
        # L-BFGS needs the same loss for the same weights, and has no learning rate.
        unfit = {
            **self.random_in_training(),
            "train.ema": self.train.ema,
            "schedule": not isinstance(self.schedule, Constant),
            "schedule.warmup_epochs": self.schedule.warmup_epochs,
            "model.norm": self.model.norm == "batch",
            "train.accumulate": self.train.accumulate > 1,
            "train.clip_norm": self.train.clip_norm,
            "train.clip_value": self.train.clip_value,
            "train.precision": self.train.precision != "float32",
            "model.freeze_epochs": self.model.freeze_epochs,
            "train.adversarial.clean": self.train.adversarial and self.train.adversarial.clean,
        }
        advice = {
            "train.adversarial.clean": "the same examples would always be attacked; leave it out",
            "model.norm": "use group or none",
            "model.backbone": f"{self.model.backbone} has dropout inside; choose another backbone",
        }
        for key, given in unfit.items():
            if given:
                raise misfit(
                    key,
                    f"{key} doesn't go with optimizer.kind: lbfgs, for which the same weights must"
                    " give the same loss on the whole training set; "
                    + advice.get(key, "leave it out"),
                )
        if self.train.non_finite != "stop":
            raise misfit(
                "train.non_finite",
                f"train.non_finite: {self.train.non_finite} does nothing with optimizer.kind:"
                " lbfgs, which ends at a loss that is not finite; leave it out",
            )
        return self

    @model_validator(mode="after")
    def _snapshots_have_restarts(self) -> Self:
        if not self.train.snapshots:
            return self
        if not isinstance(self.schedule, Restarts):
            raise misfit(
                "train.snapshots",
                "train.snapshots are taken where a cosine restarts; use schedule.kind: restarts,"
                " or leave train.snapshots out",
            )
        if self.schedule.cycle_epochs > self.train.epochs:
            raise misfit(
                "train.snapshots",
                "train.snapshots are taken at the end of each cycle, but the first cycle, of"
                f" {self.schedule.cycle_epochs:g} epochs, doesn't end within train.epochs; make"
                " schedule.cycle_epochs smaller, or leave train.snapshots out",
            )
        return self
