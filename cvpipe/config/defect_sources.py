"""Formats of normal images and images with defects."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cvpipe.config.packed import Packed
from cvpipe.config.section import Count, Length, Seed
from cvpipe.config.source import Auto, Source


class ScratchedDigits(Source):
    """Synthetic images of a printed label: the same ten of scikit-learn's handwritten digits in
    every image. Half of the test images have a defect: a scratch or a blot. Nothing is downloaded.
    """

    kind: Literal["scratched_digits"]
    """Kind of format."""
    size: tuple[Length, Length] = (128, 128)
    """Height and width of the images, pixels."""
    channels: Literal[1, 3] = 3
    """1: gray, 3: RGB."""
    train: Count = 200
    """Normal images to train on."""
    validation: Count = 40
    """Normal images to choose the threshold with."""
    test: Count = 200
    """Images to test on; every second one has a defect."""
    seed: Seed = 0
    """Seed of the digits and the images."""

    @model_validator(mode="after")
    def _digits_fit(self) -> ScratchedDigits:
        if min(self.size) < 48:
            raise ValueError(f"size {list(self.size)} is too small for the digits; give 48 or more")
        return self


class Mvtec(Source):
    """The layout of MVTec AD and VisA: train/good, test/good, a folder in test for each kind of
    defect, and masks ground_truth/DEFECT/NAME_mask.png, whose pixels are above 0 in defects.
    """

    kind: Literal["mvtec"]
    """Kind of format."""
    path: str
    """A folder, or a zip archive. Relative to where the command runs."""
    root: str = ""
    """The folder within `path` that has train and test, such as bottle."""


class AutoDefects(Auto):
    """A folder or zip archive of normal images and images with defects; the format is detected from
    its files.
    """

    task = "anomaly"


class PackedDefects(Packed):
    """Packed images, each with a kind of defect and a mask."""

    annotations = ("label", "mask")


DefectSource = Annotated[
    ScratchedDigits | Mvtec | AutoDefects | PackedDefects, Field(discriminator="kind")
]
