"""Order of the training examples: a pure function of (seed, step).

A stream's whole state is the global step.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvpipe.data.seeds import SEEDS_PER_EXAMPLE
from cvpipe.data.sources.source import Source

_FIXED_KEY = (1_210_498_617, 389_017_642, 1_872_340_951)


def batch_order(
    step: tf.Tensor, *, seed: int, examples: int, batch_size: int, block: int = 1
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the examples of one global batch.

    Every epoch is a permutation of all examples; a batch that crosses the end of an epoch continues
    with the next epoch. Each position of the permutation is computed independently (by a Feistel
    cipher on 0…N−1), so nothing is stored or shuffled.

    With blocks, 0…N−1 is a ring that is cut at a random place in each epoch and then divided into
    blocks. The epoch is a permutation of the blocks; examples within a block stay in order. The
    remainder, less than a block, comes last.

    Args:
        step: int64 scalar, the global step, from 0.
        seed: the pipeline's seed.
        examples: N, the number of examples.
        batch_size: B, examples in the global batch.
        block: number of consecutive examples that stay together; 1 permutes single examples.

    Returns:
        Indices int64 [B] in 0…N−1, and their epochs int64 [B].
    """
    position = tf.cast(step, tf.int64) * batch_size + tf.range(batch_size, dtype=tf.int64)
    epoch, offset = position // examples, position % examples
    # TensorFlow's public wrapper takes one key for all indices; a batch that crosses an epoch needs
    # one key per index. The cipher is weak: with consecutive keys, or with 4 rounds, successive
    # epochs have almost the same order.
    keys = _keys(seed, epoch[0], (batch_size - 1) // examples + 2)
    key = tf.gather(keys, epoch - epoch[0])
    block = min(block, examples)
    if block == 1:
        index = _permuted(offset, key, examples)
    else:
        blocks = examples // block
        number = tf.minimum(offset // block, blocks - 1)
        # Numbers beyond the last whole block stay in place.
        place = _permuted(number, key, blocks) * block + offset % block
        place = tf.where(offset < blocks * block, place, offset)
        cut = tf.cast(key[:, 0], tf.int64) * 2**31 + tf.cast(key[:, 1], tf.int64)
        index = (place + cut % examples) % examples
    return tf.ensure_shape(index, [batch_size]), epoch


def _permuted(number: tf.Tensor, key: tf.Tensor, count: int) -> tf.Tensor:
    """Permute numbers in 0…count − 1, int64 [B], each with its own key, int32 [B, 3]."""
    return tf.raw_ops.RandomIndexShuffle(
        index=number, seed=key, max_index=tf.constant(count - 1, tf.int64), rounds=8
    )


def fixed_order(examples: int, begin: int, end: int) -> np.ndarray:
    """Return the positions begin … end − 1 of a fixed random order of 0…examples − 1: int64 [n]."""
    number = tf.range(begin, end, dtype=tf.int64)
    key = tf.tile(tf.constant([_FIXED_KEY], tf.int32), [end - begin, 1])
    permuted: np.ndarray = _permuted(number, key, examples).numpy()
    return permuted


def batch_examples(
    source: Source, step: tf.Tensor, *, seed: int, batch_size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the examples of one global batch of a source, in blocks if the source has them.

    Returns:
        Indices int64 [B] in 0…N−1, and their epochs int64 [B].
    """
    block = source.ahead.block if source.ahead else 1
    index, epoch = batch_order(
        step, seed=seed, examples=len(source), batch_size=batch_size, block=block
    )
    return index if source.by_record is None else tf.gather(source.by_record, index), epoch


def _keys(seed: int, first_epoch: tf.Tensor, epochs: int) -> tf.Tensor:
    """Return keys of successive epochs: uniform random numbers, int32 [epochs, 3]."""
    pairs = [tf.stack([tf.constant(seed, tf.int64), first_epoch + n]) for n in range(epochs)]
    # Philox, because TensorFlow's default generator depends on the device.
    return tf.stack(
        [
            tf.random.stateless_uniform([3], pair, 0, 2**31 - 1, tf.int32, alg="philox")
            for pair in pairs
        ]
    )


def example_seed(seed: int, epoch: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Return the random seed of one example in one epoch.

    Returns:
        int64 [2] for stateless random ops, unique for every (seed, epoch, index) with
        seed < 2³¹, epoch < 2³², index < 2⁵⁶. The result is the first of a block of seeds, which
        `cvpipe.data.seeds` divides.
    """
    return tf.stack([tf.constant(seed << 32, tf.int64) + epoch, index * SEEDS_PER_EXAMPLE])
