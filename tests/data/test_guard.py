"""Guards the handling of errors in data sets: an error loses only the element that causes it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.data.guard import each_or_zeros, or_zeros, readable_or_zeros


@tf.autograph.experimental.do_not_convert
def load(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Fail for numbers whose remainder by 3 is 1."""
    good = tf.debugging.Assert(number % 3 != 1, ["bad"])
    with tf.control_dependencies([good]):
        return tf.fill([2], number * 10), tf.identity(number)


@tf.function(input_signature=[tf.TensorSpec([None], tf.int64)], autograph=False)
def load_each(batch: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], tf.Tensor]:
    return each_or_zeros(load, batch)


def expected(numbers: list[int]) -> tuple[list[list[int]], list[int], list[bool]]:
    good = [number % 3 != 1 for number in numbers]
    values = [number if is_good else 0 for number, is_good in zip(numbers, good)]
    return [[10 * value] * 2 for value in values], values, good


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4])
def test_every_pattern_of_errors_in_a_batch_is_handled(length: int) -> None:
    for numbers in itertools.product([3, 4, 5], repeat=length):
        (tens, ones), good = load_each(tf.constant(numbers, tf.int64, [length]))
        wide, single, are_good = expected(list(numbers))
        assert tens.numpy().tolist() == wide and tens.shape == (length, 2)
        assert ones.numpy().tolist() == single and good.numpy().tolist() == are_good


def test_a_batch_without_errors_is_unchanged() -> None:
    numbers = [3, 6, 9, 12] * 8
    (tens, _), good = load_each(tf.constant(numbers, tf.int64))
    assert good.numpy().all()
    np.testing.assert_array_equal(tens, [[10 * number] * 2 for number in numbers])


@pytest.mark.parametrize("numbers", [[0], [1], [1, 1], [0, 1, 2, 3, 4], [4, 4, 0], [3, 6], []])
@pytest.mark.parametrize("parallel", [1, 4])
def test_in_a_stream_every_example_keeps_its_place(numbers: list[int], parallel: int) -> None:
    examples = tf.data.Dataset.from_tensor_slices(np.array(numbers, np.int64))
    found = list(readable_or_zeros(examples, load, parallel).as_numpy_iterator())
    assert [int(number) for number, _, _ in found] == numbers
    wide, single, are_good = expected(numbers)
    assert [tens.tolist() for _, (tens, _), _ in found] == wide
    assert [int(each) for _, (_, each), _ in found] == single
    assert [bool(good) for _, _, good in found] == are_good


def test_an_error_of_a_single_element_gives_zeros_of_the_right_shapes() -> None:
    guarded = tf.function(lambda number: or_zeros(load, number), autograph=False)
    for number in (3, 4):
        (tens, ones), good = guarded(tf.constant(number, tf.int64))
        wide, single, are_good = expected([number])
        assert [tens.numpy().tolist()] == wide and [int(ones)] == single
        assert [bool(good)] == are_good


def test_load_may_read_tensors_of_the_surrounding_graph() -> None:
    @tf.function(autograph=False)
    def load_scaled(batch: tf.Tensor, factor: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def scaled(number: tf.Tensor) -> tf.Tensor:
            return load(number)[1] * factor

        return each_or_zeros(scaled, batch)

    for numbers, products in (([3, 5], [21, 35]), ([3, 4, 5], [21, 0, 35])):
        values, good = load_scaled(tf.constant(numbers, tf.int64), tf.constant(7, tf.int64))
        assert values.numpy().tolist() == products
        assert good.numpy().tolist() == [product > 0 for product in products]


def test_guards_run_outside_of_graphs_too() -> None:
    (tens, ones), good = each_or_zeros(load, tf.constant([3, 4], tf.int64))
    assert tens.numpy().tolist() == [[30, 30], [0, 0]] and ones.numpy().tolist() == [3, 0]
    assert good.numpy().tolist() == [True, False]
    assert not or_zeros(load, tf.constant(4, tf.int64))[1]
