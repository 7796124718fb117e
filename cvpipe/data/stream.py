"""From a source to fixed-shape batches: order, sharding, decoding, augmentation, quarantine,
prefetch.

Dimensions: B examples in the global batch, b on one replica; H, W, C of the network's input; V
views of an image. A batch is a dict:

- "image" float32 [b, H, W, C], or [b, V, H, W, C] in evaluation with several views.
- "targets": the task's targets, [b, …] each.
- "weight" float32 [b]: 0 for unreadable examples and padding.
- "index" int64 [b]: the example's position in its source.
- "extent" int32 [b, 2], in evaluation: height and width of the decoded image.
- "partner_targets" and "share", if training mixes examples (`augment.mix`).

In evaluation, tensors of different sizes are padded to the largest of the batch. The image of an
unreadable example is zeros. The loss ignores it, but BatchNorm's statistics in training don't.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from cvpipe.config import Config
from cvpipe.config.augment import PcaLighting, RandomResizedCrop
from cvpipe.config.prepare import Prepare
from cvpipe.data.annotations import checked, image_checks, placed_kinds, upright
from cvpipe.data.augment import augment
from cvpipe.data.augment.mix import mix
from cvpipe.data.crop import decode_random_crop
from cvpipe.data.decode import decode_image, upright_extent
from cvpipe.data.example import Example
from cvpipe.data.graph import call_python
from cvpipe.data.guard import or_zeros, readable_or_zeros
from cvpipe.data.order import batch_examples, example_seed
from cvpipe.data.plain_first import PlainFirst
from cvpipe.data.prepare import prepare, prepare_views, whole_images
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.seeds import MIX_SEED, PARTNER_SEED
from cvpipe.data.sources.source import Source
from cvpipe.data.statistics import color_components, evenly_spaced
from cvpipe.fields import Field

Batch = dict[str, Any]
Encode = Callable[[Example], dict[str, tf.Tensor]]
Fields = Mapping[str, Field]
Colors = tuple[np.ndarray, np.ndarray]

# Number of images from which the principal components of colors are computed.
COLOR_IMAGES = 1_000
# Number of examples that are loaded in parallel.
PARALLEL = os.cpu_count() or 1


def training_batches(
    source: Source,
    config: Config,
    encode: Encode,
    quarantine: Quarantine | None,
    *,
    first_step: int,
    last_step: int,
    shards: int = 1,
    first_shard: int = 0,
    own_shards: int = 1,
) -> tf.data.Dataset:
    """Return the augmented batches of steps `first_step` … `last_step` − 1, a pure function of
    (seed, step).

    The global batch is divided into `shards` equal parts, one per replica. Each step, this stream
    yields `own_shards` of them in turn, beginning with `first_shard`. The global batch doesn't
    depend on the number of shards.

    Args:
        quarantine: collects unreadable records. None is faster, but fails at the first such record.
    """
    batch_size, share = config.train.batch_size, config.train.batch_size // shards
    colors = _colors(source, config)

    def order(step: tf.Tensor) -> tf.data.Dataset:
        index, epoch = batch_examples(source, step, seed=config.seed, batch_size=batch_size)
        own = slice(first_shard * share, (first_shard + own_shards) * share)
        return tf.data.Dataset.from_tensor_slices((index[own], epoch[own]))

    def load(index: tf.Tensor, epoch: tf.Tensor) -> Batch:
        loaded = _augmented(
            source, index, epoch, config, encode, colors, careful=quarantine is not None
        )
        return (
            {**loaded, "seed": example_seed(config.seed, epoch, index)} if config.mixing else loaded
        )

    steps = tf.data.Dataset.range(first_step, last_step)
    # Steps are sequential; only examples are loaded in parallel.
    examples = _announced(source, steps.flat_map(order))
    batches = _batches(examples, load, quarantine, share)
    if config.mixing:
        mixed = tf.autograph.experimental.do_not_convert(lambda batch: _mixed(batch, config))
        batches = batches.map(mixed, num_parallel_calls=PARALLEL, deterministic=True)
    return prefetch(batches)


def evaluation_batches(
    source: Source,
    config: Config,
    encode: Encode,
    quarantine: Quarantine | None,
    batch_size: int,
    fields: Fields | None = None,
    share: tuple[int, int] = (0, 1),
) -> Iterable[Batch]:
    """Return all examples once, in the source's order, unaugmented; the last batch is padded with
    weight 0.

    Args:
        quarantine: collects unreadable records; None fails at the first.
        share: (k, n) gives every nth batch, from batch k on.
    """

    def load(index: tf.Tensor, real: tf.Tensor) -> Batch:
        return {**_evaluated(source, index, config, encode), "weight": tf.cast(real, tf.float32)}

    def batches(quarantine: Quarantine | None) -> tf.data.Dataset:
        examples = _announced(source, _padded_range(len(source), batch_size, share))
        return prefetch(_batches(examples, load, quarantine, batch_size, fields))

    plain = batches(None)
    return plain if quarantine is None else PlainFirst(plain, lambda: batches(quarantine))


def encoded_batches(
    source: Source, config: Config, encode: Encode, batch_size: int, fields: Fields | None = None
) -> Iterable[Batch]:
    """Return the batches of `evaluation_batches` with "bytes" (string [b], encoded files) instead
    of "image".

    Unreadable files, and images with annotations that don't fit them, have empty bytes and keep
    their weight; the consumer detects them when decoding.
    """

    def read(index: tf.Tensor) -> Batch:
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

    def in_slot(example: tuple[tf.Tensor, tf.Tensor], loaded: Batch) -> Batch:
        index, real = example
        return {**loaded, "weight": tf.cast(real, tf.float32), "index": index}

    def batches(guarded: bool) -> tf.data.Dataset:
        examples = _announced(source, _padded_range(len(source), batch_size))
        if guarded:
            read_each = readable_or_zeros(examples, lambda index, _: read(index), PARALLEL)
            loaded = read_each.map(lambda example, file, _: in_slot(example, file))
        else:
            plain = tf.autograph.experimental.do_not_convert(
                lambda index, real: in_slot((index, real), read(index))
            )
            loaded = examples.map(plain, PARALLEL, deterministic=True)
        return prefetch(_batched(loaded, batch_size, fields))

    return PlainFirst(batches(guarded=False), lambda: batches(guarded=True))


def read_examples(
    source: Source,
    indices: np.ndarray,
    config: Config,
    encode: Encode,
    epoch: int | None = None,
    fields: Fields | None = None,
) -> Batch:
    """Return some examples as one batch of arrays, for display; unreadable ones are left out.

    Args:
        indices: int [N], positions in the source; "index" in the batch has the readable ones.
        epoch: augment as training does in this epoch, counted from 0; None prepares as evaluation
            does.
    """
    colors = None if epoch is None else _colors(source, config)

    def load(index: tf.Tensor) -> Batch:
        if epoch is None:
            return _evaluated(source, index, config, encode)
        return _augmented(source, index, epoch, config, encode, colors, careful=True)

    chosen = tf.data.Dataset.from_tensor_slices(np.asarray(indices, np.int64))
    readable = chosen.map(tf.autograph.experimental.do_not_convert(load)).ignore_errors()
    readable = _batched(readable, max(len(indices), 1), fields, drop_remainder=False)
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


def prefetch(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Prefetch at most two batches, without autotuning.

    TensorFlow 2.20's autotuning can miss its cancellation, because it checks the flag before the
    flag is set. Deleting a stream then waits until autotuning wakes up, up to a minute later.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(2).with_options(options)


def _colors(source: Source, config: Config) -> Colors | None:
    """Return the color components of the training set if an operation needs them."""
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


def _announced(source: Source, examples: tf.data.Dataset) -> tf.data.Dataset:
    """Announce examples, (index, anything) each, to a source that reads ahead; return the same
    examples.
    """
    ahead = source.ahead
    if ahead is None:
        return examples

    def announce(index: np.ndarray) -> np.ndarray:
        source.announce(index)
        return index

    def announced(index: tf.Tensor, other: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        told = tf.numpy_function(announce, [index], tf.int64, stateful=False)
        return tf.ensure_shape(told, index.shape), other

    blocks = examples.batch(ahead.block).map(tf.autograph.experimental.do_not_convert(announced))
    return blocks.prefetch(-(-ahead.examples // ahead.block)).unbatch()


def _padded_range(
    examples: int, batch_size: int, share: tuple[int, int] = (0, 1)
) -> tf.data.Dataset:
    """Return (index, True if real) for each slot of a share of the batches."""
    first, every = share
    batches = max(-(-examples // batch_size) - first + every - 1, 0) // every

    def place(i: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        index = (i // batch_size * every + first) * batch_size + i % batch_size
        return tf.minimum(index, examples - 1), index < examples

    return tf.data.Dataset.range(batches * batch_size).map(place)


def decoded(example: Example, channels: int) -> Example:
    """Return an example of `Source.read` with its decoded image, uint8 [H, W, `channels`], and with
    annotations that are upright as it is. Graph code; fails on a file that can't be read.
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


def _augmented(
    source: Source,
    index: tf.Tensor,
    epoch: tf.Tensor | int,
    config: Config,
    encode: Encode,
    colors: Colors | None,
    careful: bool,
) -> Batch:
    """Load a training example.

    With `careful`, a partner that can't be read is replaced by this example.
    """
    example, seed, ops, size = (
        source.read(index),
        example_seed(config.seed, epoch, index),
        config.augment,
        config.prepare.size,
    )

    def partner(number: int) -> Example:
        draw = seed + tf.constant([0, PARTNER_SEED + number], tf.int64)
        other = tf.random.stateless_uniform([], draw, 0, len(source), tf.int64)
        if careful:
            _, readable = or_zeros(
                lambda chosen: tf.size(
                    decoded(source.read(chosen), config.prepare.channels)["image"]
                ),
                other,
            )
            other = tf.where(readable, other, index)
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


def _evaluated(source: Source, index: tf.Tensor, config: Config, encode: Encode) -> Batch:
    example = decoded(source.read(index), config.prepare.channels)
    extent = _extent(example["image"])
    return {
        **_loaded(example, prepare_views(example["image"], config), index, config, encode),
        "extent": extent,
    }


def _loaded(
    example: Example, image: tf.Tensor, index: tf.Tensor, config: Config, encode: Encode
) -> Batch:
    return {"image": image, "targets": encode(example), "weight": tf.constant(1.0), "index": index}


def _mixed(batch: Batch, config: Config) -> Batch:
    seeds = batch.pop("seed")
    return mix(batch, seeds + tf.constant([0, MIX_SEED], tf.int64), config.mixing)


def _batches(
    examples: tf.data.Dataset,
    load: Callable[..., Batch],
    quarantine: Quarantine | None,
    batch_size: int,
    fields: Fields | None = None,
) -> tf.data.Dataset:
    # Loading uses tf.cond for value-dependent branches. AutoGraph would only cost time, and can't
    # parse `match`.
    load = tf.autograph.experimental.do_not_convert(load)
    if quarantine is None:
        loaded = examples.map(load, num_parallel_calls=PARALLEL, deterministic=True)
    else:
        loaded = readable_or_zeros(examples, load, PARALLEL).map(_noting(quarantine))
    return _batched(loaded, batch_size, fields)


def _batched(
    examples: tf.data.Dataset, batch_size: int, fields: Fields | None, drop_remainder: bool = True
) -> tf.data.Dataset:
    """Batch examples. Targets of different sizes are padded by their fields, other tensors with
    zeros.
    """
    specs = examples.element_spec
    if all(spec.shape.is_fully_defined() for spec in tf.nest.flatten(specs)):
        return examples.batch(batch_size, drop_remainder=drop_remainder)
    padding = {**tf.nest.map_structure(lambda spec: None, specs)}
    padding["targets"] = {
        name: _padding(spec, (fields or {}).get(name, Field()))
        for name, spec in specs["targets"].items()
    }
    return examples.padded_batch(batch_size, padding_values=padding, drop_remainder=drop_remainder)


def _padding(spec: tf.TensorSpec, field: Field) -> tf.Tensor | None:
    """Return the padding value of a target; None for zeros or empty strings."""
    return None if field.padding is None else tf.constant(field.padding, spec.dtype)


def _noting(quarantine: Quarantine) -> Callable[..., Batch]:
    """Return a function that turns an element of `readable_or_zeros` into a slot of a batch.
    Unreadable examples are noted, and are empty with weight 0.
    """

    def note(index: int) -> np.int64:
        quarantine.note(index)
        return np.int64(index)

    def noted(example: tuple[tf.Tensor, ...], loaded: Batch, readable: tf.Tensor) -> Batch:
        index = tf.cond(
            readable,
            lambda: example[0],
            lambda: call_python(note, example[0], tf.TensorSpec([], tf.int64)),
        )
        return {**loaded, "index": index}

    return tf.autograph.experimental.do_not_convert(noted)
