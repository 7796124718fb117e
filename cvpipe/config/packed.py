"""Sources of packed data."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from cvpipe.config.section import Count, Whole
from cvpipe.config.source import Source


class Packed(Source):
    """Data packed by `cvpipe data pack`: a few large files, for many images or remote storage."""

    annotations: ClassVar[tuple[str, ...]] = ()
    """Kinds of annotation that the task learns from, by the names of their annotation classes."""

    kind: Literal["packed"]
    """Kind of format."""
    path: str
    """The folder, or its address such as gs://bucket/data. Relative to where the command runs."""
    block: Count = 1
    """Number of neighboring images that are read together. An epoch is a permutation of blocks,
    whose boundaries change from epoch to epoch. 1: a permutation of single images, as with other
    sources. On remote storage a block is one request; choose a size whose transfer takes as long as
    the latency, such as 16.
    """
    ahead: Whole = 0
    """Number of images that are requested in advance; 0: none. It must be at least `block` if
    `block` is above 1.
    """

    @model_validator(mode="after")
    def _reads_blocks_ahead(self) -> Self:
        if self.block > 1 and self.ahead < self.block:
            raise ValueError(
                f"ahead: {self.ahead} is less than a block of {self.block}; raise ahead to a few"
                " blocks, or set block: 1"
            )
        return self


class PackedLabels(Packed):
    """Packed images with one class each."""

    annotations: ClassVar[tuple[str, ...]] = ("label",)


class PackedBoxes(Packed):
    """Packed images with boxes."""

    annotations: ClassVar[tuple[str, ...]] = ("boxes",)


class PackedMasks(Packed):
    """Packed images with masks."""

    annotations: ClassVar[tuple[str, ...]] = ("mask",)


class PackedKeypoints(Packed):
    """Packed images with keypoints."""

    annotations: ClassVar[tuple[str, ...]] = ("boxes", "keypoints")
