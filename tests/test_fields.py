"""Guards the padding of tensors that differ in size from image to image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvpipe.fields import Field, concatenate_padded, pad_to

MASK = Field("pixels", padding=255)
PADDINGS = [(np.uint8, 255), (np.float32, -1.0), (np.int32, -1), (object, b"")]


@pytest.mark.parametrize("dtype, padding", PADDINGS)
def test_smaller_arrays_are_padded_at_the_end(dtype: Any, padding: Any) -> None:
    parts = [np.zeros([2, 3, 5]).astype(dtype), np.ones([1, 4, 2]).astype(dtype)]
    together = concatenate_padded(parts, Field(padding=padding))
    assert together.shape == (3, 4, 5) and together.dtype == dtype
    for n, part in ((0, parts[0][0]), (1, parts[0][1]), (2, parts[1][0])):
        height, width = part.shape
        np.testing.assert_array_equal(together[n, :height, :width], part)
        assert sum(value == padding for value in together[n].ravel()) == 20 - part.size


def test_arrays_of_one_size_are_concatenated_as_they_are() -> None:
    masks = [np.arange(6, dtype=np.uint8).reshape(1, 2, 3), np.ones([2, 2, 3], np.uint8)]
    for field in (MASK, Field()):
        np.testing.assert_array_equal(concatenate_padded(masks, field), np.concatenate(masks))


def test_without_a_padding_arrays_that_differ_in_size_are_an_error() -> None:
    with pytest.raises(ValueError, match="must match exactly"):
        concatenate_padded([np.zeros([1, 2]), np.zeros([1, 3])], Field())


@pytest.mark.parametrize("graph", [False, True])
def test_a_tensor_is_padded_like_arrays(graph: bool) -> None:
    pad = tf.function(pad_to) if graph else pad_to
    part, larger = np.ones([4, 2], np.uint8), np.zeros([1, 5, 3], np.uint8)
    padded = pad(tf.constant(part), tf.constant([5, 3]), MASK)
    np.testing.assert_array_equal(padded, concatenate_padded([larger, part[None]], MASK)[1])
    assert padded.dtype == tf.uint8


def test_a_tensor_of_strings_is_padded() -> None:
    padded = pad_to(tf.constant(["a"]), tf.constant([3]), Field(padding=b""))
    assert padded.numpy().tolist() == [b"a", b"", b""]


def test_a_tensor_that_is_large_enough_is_unchanged() -> None:
    mask = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(pad_to(tf.constant(mask), tf.constant([1, 3]), MASK), mask)
