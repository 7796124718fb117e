"""Some examples of a source as arrays, for display and statistics."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.augment.color import PcaLighting
from cvpipe.config.prepare import Prepare
from cvpipe.data.augment import most_partners
from cvpipe.data.batching import PARALLEL, Fields, batched, prefetch
from cvpipe.data.example import Batch, Encode
from cvpipe.data.load import (
    Colors,
    decoded,
    evaluation_example,
    readable_partners,
    training_example,
)
from cvpipe.data.prepare import prepare, whole_images
from cvpipe.data.sources.source import Source
from cvpipe.data.statistics import color_components, evenly_spaced

# Number of images from which the principal components of colors are computed.
COLOR_IMAGES = 1_000


def read_examples(
    source: Source,
    indices: np.ndarray,
    config: Config,
    encode: Encode,
    epoch: int | None = None,
    fields: Fields | None = None,
) -> Batch:
    """Return some examples as one batch of arrays, for display. Unreadable examples are left out.

    Args:
        indices: int [N], positions in the source; "index" in the batch has the positions of the
            readable examples.
        epoch: augment as training does in this epoch, counted from 0; None prepares as evaluation
            does.
    """
    colors = None if epoch is None else color_components_for(source, config)

    def load(index: tf.Tensor, epoch: tf.Tensor, partners: tf.Tensor | None = None) -> Batch:
        return training_example(source, index, epoch, config, encode, colors, partners)

    plain = tf.autograph.experimental.do_not_convert
    chosen = tf.data.Dataset.from_tensor_slices(np.asarray(indices, np.int64))
    if epoch is None:
        loaded = chosen.map(plain(lambda index: evaluation_example(source, index, config, encode)))
    else:
        examples = chosen.map(lambda index: (index, tf.constant(epoch, tf.int64)))
        if most_partners(config.augment):
            examples = readable_partners(source, examples, config, PARALLEL)
        loaded = examples.map(plain(load))
    readable = loaded.ignore_errors()
    readable = batched(readable, max(len(indices), 1), fields, drop_remainder=False)
    nothing = tf.nest.map_structure(
        lambda spec: np.zeros(
            [0, *(length or 0 for length in spec.shape[1:])], spec.dtype.as_numpy_dtype
        ),
        readable.element_spec,
    )
    return next(readable.as_numpy_iterator(), nothing)


def plain_images(
    source: Source, prepared: Prepare, indices: np.ndarray, batch_size: int = 64
) -> Iterator[np.ndarray]:
    """Yield some images in batches, prepared but not augmented, float32 [at most `batch_size`, H,
    W, C] each. Unreadable images are left out.
    """
    prepared = whole_images(prepared)

    def load(index: tf.Tensor) -> tf.Tensor:
        return prepare(decoded(source.read(index), prepared.channels)["image"], prepared)

    chosen = tf.data.Dataset.from_tensor_slices(indices)
    loaded = chosen.map(
        tf.autograph.experimental.do_not_convert(load), PARALLEL, deterministic=True
    )
    return prefetch(loaded.ignore_errors().batch(batch_size)).as_numpy_iterator()


def read_original(source: Source, index: int, channels: int) -> np.ndarray:
    """Return an example's image at its own size, upright: uint8 [H, W, `channels`]. Fails on a file
    that can't be read.
    """
    example = source.read(tf.constant(index, tf.int64))
    pixels: np.ndarray = decoded(example, channels)["image"].numpy()
    return pixels


def color_components_for(source: Source, config: Config) -> Colors | None:
    """Return the color components of a training set if an operation needs them, else None."""
    return (
        _measured_colors(source, config.prepare)
        if any(isinstance(op, PcaLighting) for op in config.augment)
        else None
    )


# Cached, because a training builds its stream again when it switches to guarded reading.
@functools.lru_cache(maxsize=1)
def _measured_colors(source: Source, prepared: Prepare) -> Colors:
    # Leave out the normalization, because the components are those of pixels in [0, 1].
    plain = prepared.model_copy(update={"mean": (0.0,), "std": (1.0,)})
    return color_components(plain_images(source, plain, evenly_spaced(len(source), COLOR_IMAGES)))
