"""From a source to fixed-shape batches, in the order of training or evaluation.

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

from collections.abc import Iterable

import tensorflow as tf

from cvpipe.config import Config
from cvpipe.data.augment import most_partners
from cvpipe.data.augment.mix import mix
from cvpipe.data.batching import (
    PARALLEL,
    Fields,
    announced,
    batched,
    load_batches,
    padded_range,
    prefetch,
)
from cvpipe.data.example import Batch, Encode
from cvpipe.data.guard import readable_or_zeros
from cvpipe.data.load import (
    encoded_example,
    evaluation_example,
    readable_partners,
    training_example,
)
from cvpipe.data.order import batch_examples, example_seed
from cvpipe.data.plain_first import PlainFirst
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.samples import color_components_for
from cvpipe.data.seeds import MIX_SEED
from cvpipe.data.sources.source import Source


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
    colors = color_components_for(source, config)

    def order(step: tf.Tensor) -> tf.data.Dataset:
        index, epoch = batch_examples(source, step, seed=config.seed, batch_size=batch_size)
        chosen = slice(first_shard * share, (first_shard + own_shards) * share)
        return tf.data.Dataset.from_tensor_slices((index[chosen], epoch[chosen]))

    def load(index: tf.Tensor, epoch: tf.Tensor, partners: tf.Tensor | None = None) -> Batch:
        loaded = training_example(source, index, epoch, config, encode, colors, partners)
        return (
            {**loaded, "seed": example_seed(config.seed, epoch, index)} if config.mixing else loaded
        )

    steps = tf.data.Dataset.range(first_step, last_step)
    # Steps are sequential; only examples are loaded in parallel.
    examples = announced(source, steps.flat_map(order))
    inputs = None
    if quarantine is not None and most_partners(config.augment):
        inputs = readable_partners(source, examples, config, PARALLEL)
    batches = load_batches(examples, load, quarantine, share, inputs=inputs)
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
        quarantine: collects unreadable records; None raises an error at the first unreadable
            record.
        share: (k, n) gives every nth batch, from batch k on.
    """

    def load(index: tf.Tensor, real: tf.Tensor) -> Batch:
        return {
            **evaluation_example(source, index, config, encode),
            "weight": tf.cast(real, tf.float32),
        }

    def batches(quarantine: Quarantine | None) -> tf.data.Dataset:
        examples = announced(source, padded_range(len(source), batch_size, share))
        return prefetch(load_batches(examples, load, quarantine, batch_size, fields))

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
        return encoded_example(source, index, config, encode)

    def in_slot(example: tuple[tf.Tensor, tf.Tensor], loaded: Batch) -> Batch:
        index, real = example
        return {**loaded, "weight": tf.cast(real, tf.float32), "index": index}

    def batches(guarded: bool) -> tf.data.Dataset:
        examples = announced(source, padded_range(len(source), batch_size))
        if guarded:
            read_each = readable_or_zeros(examples, lambda index, _: read(index), PARALLEL)
            loaded = read_each.map(lambda example, file, _: in_slot(example, file))
        else:
            plain = tf.autograph.experimental.do_not_convert(
                lambda index, real: in_slot((index, real), read(index))
            )
            loaded = examples.map(plain, PARALLEL, deterministic=True)
        return prefetch(batched(loaded, batch_size, fields))

    return PlainFirst(batches(guarded=False), lambda: batches(guarded=True))


def _mixed(batch: Batch, config: Config) -> Batch:
    seeds = batch.pop("seed")
    return mix(batch, seeds + tf.constant([0, MIX_SEED], tf.int64), config.mixing)
