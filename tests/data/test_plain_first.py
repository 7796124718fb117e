"""Guards PlainFirst: after the first bad record it continues guarded, without lost or repeated
examples.
"""

import numpy as np
import tensorflow as tf

from cvpipe.data.plain_first import PlainFirst


def squares(bad: int, guarded: bool) -> tf.data.Dataset:
    """Return the squares of 0 … 5; that of `bad` fails, or is -1 if the data set is guarded."""

    def square(n: tf.Tensor) -> tf.Tensor:
        if guarded:
            return tf.where(n == bad, tf.constant(-1, tf.int64), n * n)
        with tf.control_dependencies([tf.debugging.assert_none_equal(n, np.int64(bad))]):
            return n * n

    return tf.data.Dataset.range(6).map(square).batch(2)


def read(batches: PlainFirst) -> list[int]:
    return np.concatenate([batch.numpy() for batch in batches]).tolist()


def never() -> tf.data.Dataset:
    raise AssertionError("guarded though every record can be read")


def test_readable_records_are_never_guarded_even_if_read_repeatedly() -> None:
    batches = PlainFirst(squares(bad=9, guarded=False), never)
    assert read(batches) == read(batches) == [0, 1, 4, 9, 16, 25]


def test_batches_from_that_of_a_bad_record_on_are_guarded_and_none_is_repeated() -> None:
    for bad in range(6):
        made = []

        def guarded(bad: int = bad, made: list[int] = made) -> tf.data.Dataset:
            made.append(bad)
            return squares(bad, guarded=True)

        batches = PlainFirst(squares(bad, guarded=False), guarded)
        expected = [-1 if n == bad else n * n for n in range(6)]
        assert read(batches) == expected
        assert read(batches) == expected
        assert made == [bad]
