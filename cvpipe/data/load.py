"""From a source to one example as the network needs it: read, decode, augment, prepare, encode.

Dimensions: H, W, C of an image. All functions are graph code, and fail on a record that can't be
read.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.augment.crops import RandomResizedCrop
from cvpipe.data.annotations import checked, image_checks, placed_kinds, upright
from cvpipe.data.augment import augment, most_partners, partners_read
from cvpipe.data.crop import decode_random_crop
from cvpipe.data.decode import decode_image, upright_extent
from cvpipe.data.example import Batch, Encode, Example
from cvpipe.data.graph import noinline_branch
from cvpipe.data.guard import loaded_or_zeros
from cvpipe.data.order import example_seed
from cvpipe.data.prepare import prepare, prepare_views
from cvpipe.data.seeds import PARTNER_SEED
from cvpipe.data.sources.source import Source

Colors = tuple[np.ndarray, np.ndarray]
"""Eigenvalues [C] and eigenvectors [C, C], in columns, of the training set's colors."""


def training_example(
    source: Source,
    index: tf.Tensor,
    epoch: tf.Tensor | int,
    config: Config,
    encode: Encode,
    colors: Colors | None,
    partners: tf.Tensor | None = None,
) -> Batch:
    """Return an example for training, augmented as in this epoch.

    Args:
        epoch: int64 scalar, counted from 0.
        partners: from `readable_partners`; None if all records can be read.
    """
    example, seed, ops, size = (
        source.read(index),
        example_seed(config.seed, epoch, index),
        config.augment,
        config.prepare.size,
    )

    def partner(number: int) -> Example:
        other = _drawn_partner(source, seed, number) if partners is None else partners[number]
        return decoded(source.read(other), config.prepare.channels)

    first = ops[0] if ops else None
    is_free = "bytes" in example and not placed_kinds(example)
    if is_free and isinstance(first, RandomResizedCrop):
        # Decode only the window to crop, which takes much less time.
        example["image"] = decode_random_crop(
            example.pop("bytes"), seed, first, size, config.prepare.channels
        )
        example = augment(example, seed, ops, size, colors, done=1)
    else:
        example = augment(
            decoded(example, config.prepare.channels), seed, ops, size, colors, partner=partner
        )
    return _loaded(example, prepare(example["image"], config.prepare), index, config, encode)


def readable_partners(
    source: Source, examples: tf.data.Dataset, config: Config, parallel: int
) -> tf.data.Dataset:
    """Add the partners of `training_example`, such as the other images of a mosaic, to examples.

    Args:
        examples: (index, epoch) each. It is read twice, so it should be cheap.
        parallel: partners that are decoded at once.

    Returns:
        (index, epoch, partners) for each example; partners int64 [P], positions in the source. A
        partner that can't be read is replaced by the example itself.
    """
    most, channels = most_partners(config.augment), config.prepare.channels

    def drawn(index: tf.Tensor, epoch: tf.Tensor) -> tf.data.Dataset:
        seed = example_seed(config.seed, epoch, index)
        found = tf.stack([_drawn_partner(source, seed, number) for number in range(most)])
        is_read = tf.range(most) < partners_read(seed, config.augment)
        return tf.data.Dataset.from_tensor_slices((found, is_read))

    def look(partner: tf.Tensor, is_read: tf.Tensor) -> tf.Tensor:
        # To return its number of values, the image must be decoded completely.
        decode = noinline_branch(
            lambda: tf.size(decoded(source.read(partner), channels)["image"], tf.int64)
        )
        with tf.control_dependencies([tf.cond(is_read, decode, lambda: tf.constant(0, tf.int64))]):
            return tf.identity(partner)

    def with_partners(
        example: tuple[tf.Tensor, tf.Tensor], found: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, ...]:
        partners, are_readable = found
        return (*example, tf.where(are_readable, partners, example[0]))

    plain = tf.autograph.experimental.do_not_convert
    looked = loaded_or_zeros(examples.flat_map(plain(drawn)), look, parallel).batch(most, True)
    return tf.data.Dataset.zip(examples, looked).map(plain(with_partners))


def _drawn_partner(source: Source, seed: tf.Tensor, number: int) -> tf.Tensor:
    """Draw the partner of this number for an example with this seed, int64 scalar."""
    draw = seed + tf.constant([0, PARTNER_SEED + number], tf.int64)
    return tf.random.stateless_uniform([], draw, 0, len(source), tf.int64)


def evaluation_example(source: Source, index: tf.Tensor, config: Config, encode: Encode) -> Batch:
    """Return an example for evaluation, with the "extent" of its image."""
    example = decoded(source.read(index), config.prepare.channels)
    extent = _extent(example["image"])
    return {
        **_loaded(example, prepare_views(example["image"], config), index, config, encode),
        "extent": extent,
    }


def encoded_example(source: Source, index: tf.Tensor, config: Config, encode: Encode) -> Batch:
    """Return the image as an encoded file, "bytes" (string scalar), with its targets."""
    example = source.read(index)
    encoded = example["bytes"] if "bytes" in example else tf.io.encode_png(example["image"])
    extent = functools.cache(
        lambda: upright_extent(encoded) if "bytes" in example else _extent(example["image"])
    )
    checks = image_checks(example, lambda: _image(example, config.prepare.channels), extent)
    if checks:
        with tf.control_dependencies(checks):
            encoded = tf.identity(encoded)
    return {"bytes": encoded, "targets": encode(upright(example, extent))}


def _loaded(
    example: Example, image: tf.Tensor, index: tf.Tensor, config: Config, encode: Encode
) -> Batch:
    return {"image": image, "targets": encode(example), "weight": tf.constant(1.0), "index": index}


def decoded(example: Example, channels: int) -> Example:
    """Return an example of `Source.read` with its decoded upright image, uint8 [H, W, `channels`],
    and with annotations of the upright image.
    """
    image = checked(example, _image(example, channels))
    example = upright(example, lambda: _extent(image))
    if image.shape[-1] == 1 and channels == 3:
        image = tf.image.grayscale_to_rgb(image)
    elif image.shape[-1] == 3 and channels == 1:
        image = tf.image.rgb_to_grayscale(image)
    return {**{key: value for key, value in example.items() if key != "bytes"}, "image": image}


def _image(example: Example, channels: int) -> tf.Tensor:
    """Return the upright image, uint8 [H, W, C]; an array keeps its channels."""
    return decode_image(example["bytes"], channels) if "bytes" in example else example["image"]


def _extent(image: tf.Tensor) -> tf.Tensor:
    """Return height and width of an image, int32 [2]."""
    return tf.shape(image)[:2]
