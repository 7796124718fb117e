"""Image preparation, identical in training, evaluation and the exported model; and test-time
augmentation.
"""

from __future__ import annotations

from math import prod
from typing import Literal

from pydantic import model_validator

from cvpipe.config.section import Finite, Length, Positive, Section

# A whitening matrix has one row and column per value of an image: 4,096 × 4,096 float32 take
# 64 MB.
MAX_WHITENED_VALUES = 4096


class Prepare(Section):
    """Preparation of every image, in training, evaluation and the exported artifact alike."""

    size: tuple[Length, Length]
    """Height and width of the network's input, pixels."""
    channels: Literal[1, 3] = 3
    """1: gray, 3: RGB. Images are converted."""
    resize: Literal["stretch", "crop", "letterbox", "tile", "keep"] = "stretch"
    """Method of resizing to `size`; each task allows some of them."""
    normalize: Literal["given", "channels", "image", "pca", "zca", "weights"] = "given"
    """given: by `mean` and `std`. channels: mean and standard deviation of each channel of the
    training set. image: mean image of the training set. pca, zca: the mean image, then whitening
    (for small images). weights: as in the training of `model.weights`.
    """
    mean: tuple[Finite, ...] = (0.5,)
    """Subtracted from pixels in [0, 1]; one value, or one per channel. Mean 0.5 and std 0.5 give
    [-1, 1]; 0 and 1 give [0, 1].
    """
    std: tuple[Positive, ...] = (0.5,)
    """Divisor after the subtraction; one value, or one per channel."""
    whitening_epsilon: Positive = 0.01
    """Added to the variance of each principal component before whitening divides by its root.
    Larger values amplify noise less.
    """

    @property
    def keeps_size(self) -> bool:
        """True if answers have the size of the image, which is cropped to `size` only in
        training.
        """
        return self.resize in ("tile", "keep")

    @property
    def scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std) applied to pixels in [0, 1]; (0, 1) if the network's first layer
        normalizes.
        """
        return (self.mean, self.std) if self.normalize == "given" else ((0.0,), (1.0,))

    @property
    def bars(self) -> tuple[float, ...]:
        """Color of a letterbox's bars in [0, 1]: the mean, or gray without a given mean; one value,
        or one per channel.
        """
        return self.mean if self.normalize == "given" else (0.5,)

    @property
    def _origin(self) -> str:
        return "model.weights" if self.normalize == "weights" else "the training set"

    @model_validator(mode="after")
    def _one_value_per_channel(self) -> Prepare:
        for key in ("mean", "std"):
            given = len(getattr(self, key))
            if given not in (1, self.channels):
                raise ValueError(
                    f"{key} has {given} values for {self.channels} channels; give one, or one"
                    " per channel"
                )
        return self

    @model_validator(mode="after")
    def _one_normalization(self) -> Prepare:
        for key in ("mean", "std"):
            # A saved configuration has every key, so default values aren't a contradiction.
            if (
                self.normalize != "given"
                and getattr(self, key) != type(self).model_fields[key].default
            ):
                raise ValueError(
                    f"{key} is given, and normalize: {self.normalize} takes it from"
                    f" {self._origin}; leave one out"
                )
        values = prod(self.size) * self.channels
        if self.normalize in ("pca", "zca") and values > MAX_WHITENED_VALUES:
            raise ValueError(
                f"normalize: {self.normalize} is for images of at most {MAX_WHITENED_VALUES:,}"
                f" values, and size × channels is {values:,}; take smaller images, or normalize:"
                " channels"
            )
        return self


class TestTime(Section):
    """Test-time augmentation, in evaluation and in the exported model: predictions for several
    views of an image are averaged.
    """

    # Otherwise pytest would collect the class as a test.
    __test__ = False

    views: Literal["one", "mirrored", "center", "ten"] = "one"
    """one: the image as resized by `prepare`. mirrored: this image and its mirror image. center:
    the center crop of the resized image. ten: the center crop, the four corner crops, and the
    mirror images of these five.
    """
    sides: tuple[Length, ...] = (256,)
    """For center and ten: lengths of the short side, in pixels, to which the image is resized
    before the views are cut out. Each length yields its own views.
    """
