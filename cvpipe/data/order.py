"""Order of the training examples: a pure function of (seed, step).

A stream's whole state is the global step.
"""

from __future__ import annotations

import tensorflow as tf

from cvpipe.data.seeds import SEEDS_PER_EXAMPLE


def batch_order(
    step: tf.Tensor, *, seed: int, examples: int, batch_size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The examples of one global batch.

    Every epoch is a permutation of all examples; a batch that crosses the end of an epoch takes its
    rest from the next. The permutation is computed a position at a time (a Feistel cipher on
    0…N−1), so nothing is stored or shuffled.

    Args:
        step: int64 scalar, the global step, from 0.
        seed: the pipeline's seed.
        examples: N, the number of examples.
        batch_size: B, examples in the global batch.

    Returns:
        Indices int64 [B] in 0…N−1, and their epochs int64 [B].
    """
    position = tf.cast(step, tf.int64) * batch_size + tf.range(batch_size, dtype=tf.int64)
    epoch, offset = position // examples, position % examples
    # The public wrapper takes one key for all indices; a batch that crosses an epoch needs one key
    # an index. The cipher is a weak one: with the plain numbers as keys, or with 4 rounds,
    # successive epochs come in almost the same order.
    keys = _keys(seed, epoch[0], (batch_size - 1) // examples + 2)
    key = tf.gather(keys, epoch - epoch[0])
    index = tf.raw_ops.RandomIndexShuffle(
        index=offset, seed=key, max_index=tf.constant(examples - 1, tf.int64), rounds=8
    )
    return tf.ensure_shape(index, [batch_size]), epoch


def _keys(seed: int, first_epoch: tf.Tensor, epochs: int) -> tf.Tensor:
    """The keys of successive epochs: uniformly random numbers, int32 [epochs, 3]."""
    pairs = [tf.stack([tf.constant(seed, tf.int64), first_epoch + n]) for n in range(epochs)]
    # Philox: the choice that is left to TensorFlow depends on the device.
    return tf.stack(
        [
            tf.random.stateless_uniform([3], pair, 0, 2**31 - 1, tf.int32, alg="philox")
            for pair in pairs
        ]
    )


def example_seed(seed: int, epoch: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Return the key of everything random about one example in one epoch.

    Returns:
        int64 [2] for stateless random ops, another for every (seed, epoch, index) with
        seed < 2³¹, epoch < 2³², index < 2⁵⁶. It begins a block of seeds, which `cvpipe.data.seeds`
        divides.
    """
    return tf.stack([tf.constant(seed << 32, tf.int64) + epoch, index * SEEDS_PER_EXAMPLE])
