"""The pipeline of pose: the keypoints of the largest figure of an image."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cvpipe.config.augment import AnyImage
from cvpipe.config.augment.crops import ScaleCrop
from cvpipe.config.augment.geometry import Elastic, Lens
from cvpipe.config.data import Data
from cvpipe.config.keypoint_sources import KeypointSource
from cvpipe.config.loss import Loss
from cvpipe.config.model import Model
from cvpipe.config.pipeline import Config
from cvpipe.config.prepare import Prepare
from cvpipe.config.section import Length, Positive, Section, misfit

# Operations that join images are left out because they would join figures, and policies because
# they don't move annotations.
PoseAugmentation = Annotated[AnyImage | ScaleCrop | Lens | Elastic, Field(discriminator="op")]


class PoseData(Data):
    """Source of the labeled images, and their division into splits."""

    least_classes: ClassVar[int] = 1

    source: KeypointSource
    """The format, by its `kind`, and where the files are."""


class PosePrepare(Prepare):
    """Preparation of every image, in training, evaluation and the exported artifact alike."""

    resize: Literal["stretch", "letterbox"] = "stretch"
    """stretch: to `size`, ignoring the aspect ratio. letterbox: keep the aspect ratio, show the
    whole image; bars have the color of `mean`, or middle gray if `mean` comes from the training
    set. crop isn't available, because it would cut off keypoints.
    """


class Regression(Section):
    """Coordinates of all keypoints by fully connected layers (Toshev and Szegedy 2014, DeepPose).
    All scores are 1, because the head estimates no confidence.
    """

    kind: Literal["regression"]
    """Kind of head."""
    start: Literal[8, 16, 32] | None = None
    """Stride in pixels of the backbone's feature map under the head; null: the coarsest."""
    pooling: Literal["none", "average", "softmax"] = "none"
    """Input of the first layer. none: all cells of the map, as in the paper. average: their mean,
    with fewer weights. softmax: the mean position of a softmax over the cells of each channel
    (Levine et al. 2016), which needs fewer training images.
    """
    hidden: Length = 256
    """Units of the layer before the last one."""


class Heatmaps(Section):
    """A heatmap for each keypoint (Tompson et al. 2014), by transposed convolutions on a map of the
    backbone (Xiao et al. 2018, Simple Baselines).
    """

    kind: Literal["heatmaps"]
    """Kind of head."""
    start: Literal[8, 16, 32] = 32
    """Stride in pixels of the backbone's feature map under the head."""
    stride: Literal[1, 2, 4, 8] = 4
    """Stride in pixels of the heatmaps. Each transposed convolution halves the stride."""
    channels: Length = 256
    """Channels of each transposed convolution; `model.width` multiplies them."""

    @model_validator(mode="after")
    def _stride_is_below_start(self) -> Self:
        if self.stride >= self.start:
            raise ValueError(
                f"stride: {self.stride} is not below start, {self.start}: transposed convolutions"
                " make maps finer; choose a smaller stride"
            )
        return self


PoseHead = Annotated[Regression | Heatmaps, Field(discriminator="kind")]


class PoseModel(Model):
    """The network; its number of keypoints comes from the data."""

    styled_head: ClassVar[bool] = True

    head: PoseHead
    """Head that locates the keypoints, by its `kind`."""


class SmoothL1Loss(Loss):
    """Squares of small errors and absolute values of large errors (Girshick 2015, equation 3)."""

    kind: Literal["smooth_l1"]
    """Kind of loss."""
    beta: Positive = 0.05
    """Error above which the loss is linear, as a share of the network's input."""


class SquaredLoss(Loss):
    """Squared distances (Toshev and Szegedy 2014, equation 4)."""

    kind: Literal["l2"]
    """Kind of loss."""


class HeatmapLoss(Loss):
    """Squared difference to a Gaussian around each keypoint (Tompson et al. 2014, section 3.1)."""

    kind: Literal["gaussian"]
    """Kind of loss."""
    sigma: Positive = 1.5
    """Standard deviation of the Gaussians, in cells of the heatmaps."""


class SoftArgmaxLoss(Loss):
    """Absolute distance between the keypoint and the mean position of a softmax over its heatmap
    (Sun et al. 2018, integral regression).
    """

    kind: Literal["soft_argmax"]
    """Kind of loss."""


RegressionLoss = SmoothL1Loss | SquaredLoss
PoseLoss = Annotated[RegressionLoss | HeatmapLoss | SoftArgmaxLoss, Field(discriminator="kind")]


class Pose(Config):
    """A pipeline that learns the keypoints of the largest figure of an image."""

    task: Literal["pose"]
    """Task of the pipeline."""
    data: PoseData
    """Source of the labeled images, and their division into splits."""
    augment: tuple[PoseAugmentation, ...] = ()
    """Random changes to training images, in this order."""
    prepare: PosePrepare
    """Preparation of every image, in training, evaluation and the exported artifact alike."""
    model: PoseModel
    """The network."""
    loss: PoseLoss
    """Objective, by its `kind`: smooth_l1 or l2 for a regression head, gaussian or soft_argmax for
    heatmaps.
    """

    def output_keys(self) -> dict[str, Any]:
        """Return the keys that say if outputs are coordinates or heatmaps, and of which kind."""
        head = self.model.head
        kind = {"model.head.kind": head.kind}
        if isinstance(head, Regression):
            return kind
        return {**kind, "model.head.stride": head.stride, "loss.kind": self.loss.kind}

    @model_validator(mode="after")
    def _loss_fits_head(self) -> Self:
        head = self.model.head
        if isinstance(head, Regression) != isinstance(self.loss, RegressionLoss):
            choice = (
                "smooth_l1 or l2" if isinstance(head, Regression) else "gaussian or soft_argmax"
            )
            raise misfit(
                "loss.kind",
                f"loss.kind: {self.loss.kind} doesn't go with model.head: {head.kind}; choose"
                f" {choice}",
            )
        return self
