"""Normal images, and images with defects: where they lie."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cvpipe.config.data import Auto
from cvpipe.config.packed import Packed
from cvpipe.config.section import Count
from cvpipe.config.source import Source


class ScratchedDigits(Source):
    """Labels on which ten of scikit-learn's handwritten digits are printed, always the same. Of the
    test images half have a defect: a scratch, or a blot. Drawn when opened, nothing is downloaded.
    """

    kind: Literal["scratched_digits"]
    """Kind of format."""
    size: tuple[Count, Count] = (128, 128)
    """Height and width of the images, pixels."""
    channels: Literal[1, 3] = 3
    """1: gray, 3: RGB."""
    train: Count = 200
    """Normal images to train on."""
    validation: Count = 40
    """Normal images to choose the threshold with."""
    test: Count = 200
    """Images to test on; every second has a defect."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Chooses the handwriting and the images."""

    @model_validator(mode="after")
    def _digits_fit(self) -> ScratchedDigits:
        if min(self.size) < 48:
            raise ValueError(f"size {list(self.size)} leaves digits no room; give 48 at least")
        return self


class Mvtec(Source):
    """The layout of MVTec AD and VisA: train/good, test/good, a folder in test for each kind of
    defect, and masks as ground_truth/DEFECT/NAME_mask.png, whose pixels are above 0 in defects.
    """

    kind: Literal["mvtec"]
    """Kind of format."""
    path: str
    """A folder, or a zip archive. Relative to where the command runs."""
    root: str = ""
    """The folder in it that train and test lie in, as seen from `path`, such as bottle."""


class AutoDefects(Auto):
    """A folder or zip archive of normal images and images with defects, whose format is told by its
    files.
    """

    task = "anomaly"


class PackedDefects(Packed):
    """Packed images with a kind of defect and a mask each."""

    annotations = ("label", "mask")


DefectSource = Annotated[
    ScratchedDigits | Mvtec | AutoDefects | PackedDefects, Field(discriminator="kind")
]
