"""A source whose images are changed after they are decoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from cvpipe.data.example import Example
from cvpipe.data.load import decoded
from cvpipe.data.sources.source import Source

Alter = Callable[[np.ndarray, int], np.ndarray]
"""Maps an image uint8 [H, W, C] and the number of its record to an image of the same shape."""


@dataclasses.dataclass(frozen=True, eq=False)
class Altered(Source):
    """The examples of another source, with altered images. The images are arrays, upright like
    their annotations.
    """

    alter: Alter = lambda image, record: image
    channels: int = 3
    """Channels of the images: 1 or 3."""

    def read(self, index: tf.Tensor) -> Example:
        """Return the example at `index` (int64 scalar, below N). Graph code."""
        example = decoded(super().read(index), self.channels)
        image, record = example["image"], tf.gather(self._records, index)
        altered = tf.numpy_function(
            lambda pixels, number: self.alter(pixels, int(number)),
            [image, record],
            tf.uint8,
            stateful=False,
        )
        return {**example, "image": tf.ensure_shape(altered, image.shape)}


def altered(source: Source, alter: Alter, channels: int) -> Altered:
    """Return the source with altered images.

    Args:
        source: the source of the examples, whose annotations don't change.
        alter: called from many threads.
        channels: number of channels of the images, 1 or 3. Decoded images are converted.
    """
    parts = {field.name: getattr(source, field.name) for field in dataclasses.fields(Source)}
    return Altered(**parts, alter=alter, channels=channels)
