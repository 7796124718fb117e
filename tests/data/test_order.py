"""Guards the order of examples: permutations that depend only on (seed, step)."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from conftest import soaked
from cvpipe.data.order import batch_order, example_seed


def order(
    examples: int, batch_size: int, first: int, last: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and epochs [steps, B] of a range of steps, computed inside Dataset.map."""
    steps = tf.data.Dataset.range(first, last)
    rows = list(
        steps.map(
            lambda step: batch_order(step, seed=seed, examples=examples, batch_size=batch_size)
        ).as_numpy_iterator()
    )
    return np.array([index for index, _ in rows]), np.array([epoch for _, epoch in rows])


@pytest.mark.parametrize("batch_size", [1, 4, 7, 60])
@pytest.mark.parametrize("examples", [1, 2, 3, 7, 16, 50])
def test_every_epoch_is_a_permutation(examples: int, batch_size: int) -> None:
    index, epoch = (
        values.ravel() for values in order(examples, batch_size, 0, -(-3 * examples // batch_size))
    )
    np.testing.assert_array_equal(epoch, np.arange(len(epoch)) // examples)
    for number in range(3):
        assert sorted(index[epoch == number]) == list(range(examples))


def test_a_batch_may_hold_several_epochs_of_any_length() -> None:
    for examples in range(1, 51):
        index, _ = batch_order(
            tf.constant(0, tf.int64), seed=3, examples=examples, batch_size=3 * examples
        )
        for epoch in np.split(index.numpy(), 3):
            assert sorted(epoch) == list(range(examples)), examples


def test_batches_of_any_size_are_parts_of_one_infinite_order() -> None:
    np.testing.assert_array_equal(order(20, 4, 0, 15)[0].ravel(), order(20, 6, 0, 10)[0].ravel())


def test_epochs_differ() -> None:
    epochs = order(20, 20, 0, 30)[0]
    assert len({epoch.tobytes() for epoch in epochs}) == 30


def test_seeds_differ() -> None:
    assert len({order(20, 20, 0, 1, seed)[0].tobytes() for seed in (0, 1, 2, 3, 2**31 - 1)}) == 5


@pytest.mark.parametrize("first", [1, 7, 19])
def test_a_batch_does_not_depend_on_the_first_step_of_the_range(first: int) -> None:
    for whole, rest in zip(order(11, 4, 0, 20), order(11, 4, first, 20)):
        np.testing.assert_array_equal(whole[first:], rest)


def test_eager_and_graph_agree() -> None:
    index, epoch = order(11, 4, 5, 6)
    eager = batch_order(tf.constant(5, tf.int64), seed=0, examples=11, batch_size=4)
    np.testing.assert_array_equal(eager[0], index[0])
    np.testing.assert_array_equal(eager[1], epoch[0])


@pytest.mark.parametrize("examples", [3, *soaked(2, 10)])
def test_every_example_is_equally_often_at_every_position(examples: int) -> None:
    epochs = 600
    index, _ = batch_order(
        tf.constant(0, tf.int64), seed=0, examples=examples, batch_size=epochs * examples
    )
    counts = np.stack(
        [
            np.bincount(column, minlength=examples)
            for column in index.numpy().reshape(epochs, examples).T
        ]
    )
    expected = epochs / examples
    # Counts deviate by less than five standard deviations.
    assert abs(counts - expected).max() < 5 * np.sqrt(expected)


@pytest.mark.parametrize("examples", [50, 1437, 2**16])
def test_an_epoch_is_independent_of_the_next(examples: int) -> None:
    epochs = order(examples, examples, 0, 6)[0]
    for before, after in zip([np.arange(examples), *epochs], epochs):
        assert abs(np.corrcoef(before, after)[0, 1]) < 4 / np.sqrt(examples)


def test_successive_examples_are_independent() -> None:
    [epoch] = order(2**16, 2**16, 0, 1)[0]
    # Differences of successive indices, modulo N, are uniform: chi-square within five standard
    # deviations.
    counts = np.bincount(np.diff(epoch) % 2**16 // 256, minlength=256)
    chi_square = ((counts - 256) ** 2 / 256).sum()
    assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255)


def test_a_million_examples_are_ordered_without_duplicates() -> None:
    index, epoch = batch_order(
        tf.constant(10**6, tf.int64), seed=0, examples=1_281_167, batch_size=256
    )
    assert len(set(index.numpy())) == 256
    assert index.numpy().min() >= 0 and index.numpy().max() < 1_281_167
    assert set(epoch.numpy()) == {256 * 10**6 // 1_281_167}


def test_every_example_of_every_epoch_has_different_seeds() -> None:
    epochs, indices = (
        tf.constant(grid.ravel(), tf.int64) for grid in np.meshgrid(np.arange(20), np.arange(50))
    )
    keys = []
    for seed in (0, 1, 2**31 - 1):
        both = [example_seed(seed, epoch, index).numpy() for epoch, index in zip(epochs, indices)]
        # An augmentation's nth operation adds n.
        keys += [tuple(key + [0, n]) for key in both for n in (0, 1, 127)]
    assert len(set(keys)) == 3 * 20 * 50 * 3


def test_keys_differ_up_to_the_documented_limits() -> None:
    largest = example_seed(
        2**31 - 1, tf.constant(2**32 - 1, tf.int64), tf.constant(2**56 - 1, tf.int64)
    ).numpy()
    assert (largest > 0).all()
    assert largest[0] == 2**63 - 1 and largest[1] == 2**63 - 128


def test_keys_are_the_same_eagerly_and_in_a_graph() -> None:
    pairs = tf.data.Dataset.from_tensors((tf.constant(3, tf.int64), tf.constant(5, tf.int64)))
    [graph] = pairs.map(lambda epoch, index: example_seed(7, epoch, index)).as_numpy_iterator()
    np.testing.assert_array_equal(
        graph, example_seed(7, tf.constant(3, tf.int64), tf.constant(5, tf.int64))
    )
