"""Heads that predict boxes, and non-maximum suppression."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from cvpipe.config.section import Count, Positive, Probability, Section, misfit

Strides = Annotated[tuple[Count, ...], Field(min_length=1)]
Anchor = tuple[Positive, Positive]


class Suppress(Section):
    """Non-maximum suppression: among overlapping boxes, only the best is returned."""

    kind: Literal["classwise", "agnostic", "soft"] = "classwise"
    """classwise: a box is dropped if it overlaps a box of its class with a higher score. agnostic:
    a box is dropped if it overlaps a box of any class with a higher score. soft: like classwise,
    but the box is kept and its score lowered (Bodla et al. 2017, linear).
    """
    score_threshold: Probability = 0.01
    """Boxes with a lower score are not returned.

    Average precision needs a low threshold; for display, choose a higher one. Requests to an
    exported model can override it.
    """
    class_thresholds: dict[str, Probability] = Field(default={})
    """Minimum scores of some classes, by name, in addition to `score_threshold`. `cvpipe export
    --threshold best` sets the scores with the best F1. Requests can't lower these minimums.
    """
    iou_threshold: Probability = 0.5
    """IoU from which the worse of two boxes is dropped. Requests can override it."""
    max_detections: Count = 100
    """Maximum number of boxes per image. Requests can lower it."""
    candidates: Count = 400
    """Number of highest scores per image, over all boxes and classes, that enter suppression;
    bounds time and memory.
    """

    @model_validator(mode="after")
    def _soft_has_no_class_thresholds(self) -> Suppress:
        if self.kind == "soft" and self.class_thresholds:
            raise ValueError(
                "class_thresholds can't be used with kind: soft, which lowers scores after"
                " comparing them; use kind: classwise or agnostic"
            )
        return self

    def __hash__(self) -> int:
        # TensorFlow hashes the arguments of traced functions, which include the configuration, but
        # pydantic can't hash a dictionary.
        return hash(self.model_dump_json())


class BoxHead(Section):
    """A head that predicts boxes."""

    kind: str
    """Kind of head."""
    suppress: Suppress = Suppress()
    """Non-maximum suppression of the predicted boxes."""

    def output_keys(self) -> dict[str, Any]:
        """Return the keys, with their values, that determine form and meaning of the outputs."""
        return {key: value for key, value in self if key != "suppress"}


class Ssd(BoxHead):
    """SSD: the head moves, scales and classifies default boxes in the cells of several feature maps
    (Liu et al. 2015).
    """

    kind: Literal["ssd"]
    """Kind of head."""
    layout: Literal["even", "ssd300", "ssd512"] = "even"
    """Default boxes and feature maps. ssd300, ssd512: as in the paper, for images of 300×300 or
    512×512 and backbone ssd_vgg16. even: defined by the following keys.
    """
    strides: Strides = (8, 16)
    """For even: strides of the backbone's feature maps to use. Coarser maps are added, each half as
    large as the one before.
    """
    coarsest: Count = 1
    """For even: maps are added until the longer side has at most this number of cells."""
    smallest: Probability = 0.1
    """For even: side of the finest map's default boxes, as a share of the image."""
    largest: Probability = 0.9
    """For even: side of the coarsest map's default boxes, as a share of the image. The sides for
    the maps in between are evenly spaced.
    """
    aspects: tuple[Positive, ...] = (2.0,)
    """For even: aspect ratios (width / height) of default boxes besides the two squares. Their
    inverses are added.
    """
    separable: bool = False
    """Depthwise separable convolutions in the head and added maps: SSDLite (Sandler et al. 2018,
    section 6.2).
    """
    pyramid: Annotated[int, Field(ge=0, le=2**14)] = 0
    """Channels, at width 1, of a feature pyramid over the backbone's maps (Lin et al. 2016: 256); 0
    for none.
    """
    overlap: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Minimum IoU with an object for a default box to be matched to it. The best box of each object
    is always matched.
    """

    def output_keys(self) -> dict[str, Any]:
        """Return the keys, with their values, that determine the default boxes."""
        used = ["kind", "layout"]
        if self.layout == "even":
            used += ["strides", "coarsest", "smallest", "largest", "aspects"]
        return {key: getattr(self, key) for key in used}

    @model_validator(mode="after")
    def _ordered(self) -> Ssd:
        _check_strides(self.strides)
        if not 0 < self.smallest <= self.largest:
            raise ValueError("smallest must be above 0 and at most largest")
        return self


class YoloV1(BoxHead):
    """YOLOv1: a grid; each cell predicts the object whose center is in it (Redmon et al. 2015)."""

    kind: Literal["yolo_v1"]
    """Kind of head."""
    stride: Annotated[int, Field(ge=2, le=2**14)] = 64
    """Stride of the cells in pixels, an even number. With the paper's 64, an input of 448×448 has
    7×7 cells.
    """
    boxes: Count = 2
    """Number of boxes per cell."""


class AnchorHead(BoxHead):
    """A head that predicts boxes relative to anchors."""

    anchors: tuple[Anchor, ...] = ()
    """Heights and widths of typical objects, as shares of the network's input, from small to large.

    `cvpipe data anchors` finds them in the training images. Only that command and `cvpipe data
    check` accept a pipeline without anchors.
    """

    @model_validator(mode="after")
    def _has_anchors(self, info: ValidationInfo) -> Self:
        is_draft = info.context is not None and info.context["draft"]
        if not self.anchors and not is_draft:
            raise misfit(
                "model.head.anchors",
                "'model.head.anchors' is missing; find anchors with: cvpipe data anchors"
                " PIPELINE.yaml",
            )
        return self


class YoloV2(AnchorHead):
    """YOLOv2: anchors in every cell of one grid, and a passthrough from the next finer map (Redmon
    and Farhadi 2016).
    """

    kind: Literal["yolo_v2"]
    """Kind of head."""
    stride: Annotated[int, Field(ge=2, le=2**14)] = 32
    """Stride of the cells in pixels, an even number."""


class YoloV3(AnchorHead):
    """YOLOv3: anchors in every cell of several grids (Redmon and Farhadi 2018). All grids have the
    same number of anchors; the finest grid has the smallest anchors.
    """

    kind: Literal["yolo_v3"]
    """Kind of head."""
    strides: Strides = (8, 16, 32)
    """Strides of the grids in pixels, from fine to coarse."""

    @model_validator(mode="after")
    def _strides_share_anchors(self) -> YoloV3:
        _check_strides(self.strides)
        if len(self.anchors) % len(self.strides):
            raise ValueError(
                f"{len(self.anchors)} anchors can't be divided evenly among {len(self.strides)}"
                " strides"
            )
        return self


DetectionHead = Annotated[Ssd | YoloV1 | YoloV2 | YoloV3, Field(discriminator="kind")]


def _check_strides(strides: tuple[int, ...]) -> None:
    if any(coarse <= fine for fine, coarse in itertools.pairwise(strides)):
        raise ValueError("strides must grow: [fine, …, coarse]")
