"""From positions in a source to batches of a fixed shape: padding, parallel loading, prefetch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from cvpipe.data.example import Batch
from cvpipe.data.graph import call_python
from cvpipe.data.guard import readable_or_zeros
from cvpipe.data.quarantine import Quarantine
from cvpipe.data.sources.source import Source
from cvpipe.fields import Field

# Number of examples that are loaded in parallel.
PARALLEL = os.cpu_count() or 1
Fields = Mapping[str, Field]


def announced(source: Source, examples: tf.data.Dataset) -> tf.data.Dataset:
    """Announce examples, (index, anything) each, to a source that reads ahead; return the same
    examples.
    """
    ahead = source.ahead
    if ahead is None:
        return examples

    def announce(index: np.ndarray) -> np.ndarray:
        source.announce(index)
        return index

    def announce_each(index: tf.Tensor, other: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        same = tf.numpy_function(announce, [index], tf.int64, stateful=False)
        return tf.ensure_shape(same, index.shape), other

    blocks = examples.batch(ahead.block).map(
        tf.autograph.experimental.do_not_convert(announce_each)
    )
    return blocks.prefetch(-(-ahead.examples // ahead.block)).unbatch()


def padded_range(
    examples: int, batch_size: int, share: tuple[int, int] = (0, 1)
) -> tf.data.Dataset:
    """Return (index, is_real) for each slot of the batches k, k + n, k + 2n …, where `share` is
    (k, n). `is_real` is False for padding.
    """
    first, every = share
    batches = max(-(-examples // batch_size) - first + every - 1, 0) // every

    def place(i: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        index = (i // batch_size * every + first) * batch_size + i % batch_size
        return tf.minimum(index, examples - 1), index < examples

    return tf.data.Dataset.range(batches * batch_size).map(place)


def load_batches(
    examples: tf.data.Dataset,
    load: Callable[..., Batch],
    quarantine: Quarantine | None,
    batch_size: int,
    fields: Fields | None = None,
    inputs: tf.data.Dataset | None = None,
) -> tf.data.Dataset:
    """Load examples in parallel, in order, and batch them.

    Args:
        examples: inputs of `load`; the first is the example's position in its source.
        inputs: with a quarantine, inputs of `load` that differ from `examples`.
        quarantine: collects unreadable records, which become empty slots of weight 0; None raises
            an error at the first unreadable record.
    """
    # Loading uses tf.cond for value-dependent branches. AutoGraph would only cost time, and can't
    # parse `match`.
    load = tf.autograph.experimental.do_not_convert(load)
    if quarantine is None:
        loaded = examples.map(load, num_parallel_calls=PARALLEL, deterministic=True)
    else:
        loaded = readable_or_zeros(examples, load, PARALLEL, inputs).map(_noting(quarantine))
    return batched(loaded, batch_size, fields)


def batched(
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
    Unreadable examples are noted in the quarantine and become empty slots of weight 0.
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


def prefetch(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Prefetch at most two batches, without autotuning.

    TensorFlow 2.20's autotuning can miss its cancellation, because it checks the flag before the
    flag is set. Deleting a stream then waits until autotuning wakes up, up to a minute later.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(2).with_options(options)
