"""scikit-learn's handwritten digits: single digits, and scenes with boxes or masks."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from cvpipe.config.section import Count, Length, Seed
from cvpipe.config.source import Source


class Digits(Source):
    """scikit-learn's 1,797 handwritten digits, 8×8 gray, 10 classes, part of the package."""

    kind: Literal["digits"]
    """Kind of format."""


class DigitScenes(Source):
    """scikit-learn's handwritten digits, enlarged, on cluttered backgrounds, with their boxes.

    The scenes are drawn when the source is opened; nothing is downloaded.
    """

    kind: Literal["digit_scenes"]
    """Kind of format."""
    size: tuple[Length, Length] = (128, 128)
    """Height and width of the scenes, pixels."""
    channels: Literal[1, 3] = 3
    """1: gray, 3: RGB."""
    train: Count = 2_000
    """Number of training scenes."""
    validation: Count = 200
    """Number of validation scenes."""
    test: Count = 400
    """Number of test scenes. No handwritten digit is used in two splits."""
    most_digits: Count = 6
    """Largest number of digits in a scene; the smallest is 1."""
    digit_sizes: tuple[Length, Length] = (16, 48)
    """Smallest and largest height of a digit in pixels, including its margin."""
    seed: Seed = 0
    """Random seed of the scenes."""

    @model_validator(mode="after")
    def _digits_fit(self) -> DigitScenes:
        smallest, largest = self.digit_sizes
        if smallest < 8 or not smallest <= largest <= min(self.size):
            raise ValueError(
                "digit_sizes must be [smallest, largest], from 8 up to the scenes' shorter side,"
                f" {min(self.size)}"
            )
        return self


class DigitSceneMasks(DigitScenes):
    """scikit-learn's handwritten digits, enlarged, on cluttered backgrounds, with masks of
    background and ten digits.

    The scenes are drawn when the source is opened; nothing is downloaded.
    """

    masks: Literal[True] = True
    """Always true in segmentation."""
