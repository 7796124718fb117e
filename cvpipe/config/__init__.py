"""The typed pipeline: every key of a pipeline file, what it means and what it may be; a file for
each part of it.

Frozen and strict: an unknown key or a wrong type is an error, never a guess. Reading files,
overrides and turning errors into sentences is `config_file`'s work. TensorFlow is not imported
here, so that a wrong pipeline is reported before it loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cvpipe.config.augment import (
    Augmentation,
    AutoAugment,
    CopyPaste,
    Elastic,
    Expand,
    IouCrop,
    Lens,
    Mix,
    Mosaic,
    ObjectMixUp,
    RandAugment,
    RandomResizedCrop,
    ScaleCrop,
    ShortSideCrop,
)
from cvpipe.config.data import Data, has_boxes, has_masks
from cvpipe.config.detection import Suppress
from cvpipe.config.loss import Loss
from cvpipe.config.model import Model
from cvpipe.config.optimizer import Constant, Lbfgs, Optimizer, Schedule
from cvpipe.config.prepare import Prepare, TestTime
from cvpipe.config.section import Section
from cvpipe.config.train import Export, Train
from cvpipe.models.catalogue import application_of

__all__ = ["Config"]

HEADS = {
    "detection": ("ssd", "yolo_v1", "yolo_v2", "yolo_v3"),
    "segmentation": ("fcn", "unet", "segnet", "deconvnet"),
}
ANSWERS = {"classification": "a class per image", "detection": "boxes", "segmentation": "masks"}
LOSSES: dict[str | None, tuple[str, ...]] = {
    None: ("softmax", "hinge", "squared_hinge", "binary", "focal"),
    "ssd": ("multibox", "focal"),
    **dict.fromkeys(("yolo_v1", "yolo_v2", "yolo_v3"), ("yolo",)),
    **dict.fromkeys(HEADS["segmentation"], ("softmax", "focal", "dice")),
}
WITH_OBJECTS = (IouCrop, Mosaic, CopyPaste, ObjectMixUp)
# Bent boxes aren't boxes; of the policies the operations are chosen while the graph runs.
UNFIT = {
    "classification": (WITH_OBJECTS, "is for images with objects"),
    "detection": (
        (Lens, Elastic, RandAugment, AutoAugment),
        "doesn't move boxes along with the image",
    ),
    "segmentation": (
        (*WITH_OBJECTS, RandAugment, AutoAugment),
        "doesn't move masks along with the image",
    ),
}
CROPS = (ScaleCrop, RandomResizedCrop, ShortSideCrop)


class Config(Section):
    """One pipeline: one experiment."""

    task: Literal["classification", "detection", "segmentation"]
    """What is learned."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Name of the run and the served model; the file's name where it is left out."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Same seed, same bits: weights, order, augmentation."""
    data: Data
    """Where the labelled images come from."""
    augment: tuple[Augmentation, ...] = ()
    """Random changes to training images, in this order."""
    mix: tuple[Mix, ...] = ()
    """Random mixing of two prepared training images; of several, each pair takes one at random."""
    prepare: Prepare
    """What every image goes through, in training, evaluation and in the exported artefact alike."""
    test_time: TestTime = TestTime()
    """What an image is shown as when it is answered, in evaluation and in the artefact."""
    model: Model
    """The network."""
    suppress: Suppress = Suppress()
    """For detection: which of the boxes found are answered."""
    loss: Loss = Loss()
    """What is minimized."""
    optimizer: Optimizer
    """How it is minimized, by its `kind`."""
    schedule: Schedule = Constant(kind="constant")
    """How the learning rate changes, by its `kind`."""
    train: Train
    """How long, on what, and how it is saved."""
    export: Export = Export()
    """What the SavedModel holds and answers."""

    @model_validator(mode="after")
    def _task_fits(self) -> Config:
        head = self.model.head.kind if self.model.head else None
        if head not in HEADS.get(self.task, (None,)):
            if self.task == "classification":
                raise ValueError(
                    f"model.head: {head} is for other tasks than classification, which has a head"
                    " of its own; leave it out"
                )
            needed = (
                f"task: {self.task} needs one that predicts {ANSWERS[self.task]}:"
                f" {' or '.join(HEADS[self.task])}"
            )
            raise ValueError(
                f"model.head{f': {head} is for another task' if head else ' is missing'}; {needed}"
            )
        if self.loss.kind not in LOSSES[head]:
            raise ValueError(
                f"loss.kind: {self.loss.kind} doesn't go with"
                f" {f'model.head: {head}' if head else 'task: classification'}; choose"
                f" {' or '.join(LOSSES[head])}"
            )
        loss = self.loss
        if self.model.drop_connect and self.task == "segmentation":
            raise ValueError(
                "model.drop_connect is for layers that see a whole image; leave it out for"
                " segmentation, or use model.dropout"
            )
        of_pixels = {
            "class_weights": loss.class_weights,
            "dice_weight": loss.dice_weight,
            "hard_pixels": loss.hard_pixels < 1,
        }
        for key, asked in of_pixels.items():
            if asked and (self.task != "segmentation" or loss.kind == "dice"):
                raise ValueError(
                    f"loss.{key} is for segmentation with kind: softmax or focal; leave it out"
                )
        given = (
            "detection"
            if has_boxes(self.data.source)
            else "segmentation"
            if has_masks(self.data.source)
            else "classification"
        )
        if given != self.task:
            more = (
                "; set data.source.masks"
                if self.task == "segmentation" and "masks" in type(self.data.source).model_fields
                else ""
            )
            raise ValueError(
                f"data.source.kind: {self.data.source.kind} has {ANSWERS[given]}, and task:"
                f" {self.task} learns {ANSWERS[self.task]}; choose another source, or another"
                f" task{more}"
            )
        return self

    @model_validator(mode="after")
    def _places_stay_known(self) -> Config:
        tiles = self.prepare.resize == "tile"
        if tiles and self.task != "segmentation":
            choices = (
                "stretch, crop or letterbox"
                if self.task == "classification"
                else "stretch or letterbox"
            )
            raise ValueError(f"prepare.resize: tile is for segmentation; choose {choices}")
        if self.task == "classification":
            return self
        if self.prepare.resize == "crop":
            raise ValueError(
                "prepare.resize: crop would cut objects off; use stretch or letterbox for"
                f" {self.task}"
            )
        if self.test_time.views != "one":
            raise ValueError(
                f"test_time.views: {self.test_time.views} is for classification; leave it out for"
                f" {self.task}"
            )
        if self.mix:
            instead = (
                "; use op: object_mixup in augment for detection"
                if self.task == "detection"
                else "; leave it out for segmentation"
            )
            raise ValueError(f"mix is for classification{instead}")
        if tiles:
            self._check_crops_come_last()
        return self

    def _check_crops_come_last(self) -> None:
        """Whether training's images have the size of tiles: Expand is the one operation, apart from
        crops, that changes a size.
        """
        crops = [number for number, op in enumerate(self.augment) if isinstance(op, CROPS)]
        if not crops:
            raise ValueError(
                "prepare.resize: tile needs images cropped in training; add op: scale_crop to"
                " augment"
            )
        for number, op in enumerate(self.augment):
            if isinstance(op, Expand) and number > crops[-1]:
                raise ValueError(
                    f"augment.{number}: expand makes images larger than the crops that"
                    f" prepare.resize: tile needs; put it before op: {self.augment[crops[-1]].op}"
                )

    @model_validator(mode="after")
    def _pictures_fit(self) -> Config:
        if self.export.png and self.task != "segmentation":
            raise ValueError(
                "export.png is for segmentation, whose answers are masks; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _augmentations_fit(self) -> Config:
        unfit, why = UNFIT[self.task]
        for number, op in enumerate(self.augment):
            if isinstance(op, unfit):
                raise ValueError(
                    f"augment.{number}: {op.op} {why}; leave it out for task: {self.task}"
                )
            if isinstance(op, ScaleCrop) and op.balance and self.task != "segmentation":
                raise ValueError(
                    f"augment.{number}.balance is for segmentation, whose masks say where each"
                    " class is; leave it out"
                )
        return self

    @model_validator(mode="after")
    def _warm_up_fits(self) -> Config:
        if self.schedule.warmup_epochs >= self.train.epochs:
            raise ValueError(
                f"schedule.warmup_epochs ({self.schedule.warmup_epochs:g}) must be below"
                f" train.epochs ({self.train.epochs})"
            )
        return self

    @model_validator(mode="after")
    def _sides_hold_the_input(self) -> Config:
        longest = max(self.prepare.size)
        if (
            self.test_time.views in ("centre", "ten")
            and min(self.test_time.sides, default=0) < longest
        ):
            raise ValueError(
                f"test_time.sides must be lengths of at least {longest}, the longer side of"
                " prepare.size"
            )
        for number, op in enumerate(self.augment):
            if isinstance(op, ShortSideCrop) and op.sides[0] < longest:
                raise ValueError(
                    f"augment.{number}.sides must be at least {longest}, the longer side of"
                    " prepare.size"
                )
        return self

    @model_validator(mode="after")
    def _keras_prepares_itself(self) -> Config:
        if application_of(self.model.backbone) and (
            self.prepare.normalize != "given" or self.prepare.scaling != ((0.0,), (1.0,))
        ):
            raise ValueError(
                f"prepare.mean must be [0] and prepare.std [1] for {self.model.backbone}, which"
                " brings the preprocessing that its weights need"
            )
        return self

    @model_validator(mode="after")
    def _optimizer_fits(self) -> Config:
        if isinstance(self.optimizer, Lbfgs):
            # It needs the same loss for the same weights: nothing may be random, and there is no
            # learning rate.
            unfit = {
                "augment": self.augment,
                "mix": self.mix,
                "model.dropout": self.model.dropout,
                "model.drop_connect": self.model.drop_connect,
                "model.stochastic_depth": self.model.stochastic_depth,
                "train.ema": self.train.ema,
                "schedule": not isinstance(self.schedule, Constant),
                "schedule.warmup_epochs": self.schedule.warmup_epochs,
                "model.norm": self.model.norm == "batch",
                "train.accumulate": self.train.accumulate > 1,
                "train.clip_norm": self.train.clip_norm,
                "train.clip_value": self.train.clip_value,
                "train.precision": self.train.precision != "float32",
            }
            for key, given in unfit.items():
                if given:
                    raise ValueError(
                        f"{key} doesn't go with optimizer.kind: lbfgs, for which the same weights"
                        " must give the same loss on the whole training set; "
                        + ("use group or none" if key == "model.norm" else "leave it out")
                    )
        if self.train.snapshots and self.schedule.kind != "restarts":
            raise ValueError(
                "train.snapshots are taken where a cosine restarts; use schedule.kind: restarts, or"
                " leave them out"
            )
        return self

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        """The optimizers that a task's updates name."""
        return {"optimizer": self.optimizer}

    def with_one_view(self) -> Config:
        """Every image as the network takes it, whatever it is shown as when it is answered."""
        # What is cropped in training and answered in tiles is shown whole.
        prepare = (
            self.prepare.model_copy(update={"resize": "stretch"})
            if self.prepare.resize == "tile"
            else self.prepare
        )
        return self.model_copy(update={"test_time": TestTime(), "prepare": prepare})

    def to_json(self) -> dict[str, Any]:
        """The whole configuration, defaults included, as plain JSON values."""
        return self.model_dump(mode="json")
