"""Guards max-pooling under XLA: values and gradients are those of TensorFlow's CPU kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import soaked
from cvpipe.models.applications import application
from cvpipe.models.pooling import MaxPooling2D, max_pool, with_exact_pooling


class Window(NamedTuple):
    """A pooling window."""

    size: tuple[int, int]
    strides: tuple[int, int]
    padding: str
    pixels: tuple[int, int]


WINDOWS = [
    Window((2, 2), (2, 2), "same", (7, 9)),
    Window((3, 3), (2, 2), "valid", (9, 11)),
    Window((3, 3), (1, 1), "same", (6, 5)),
    *soaked(
        Window((2, 2), (2, 2), "valid", (7, 9)),
        Window((3, 2), (2, 3), "same", (10, 11)),
        Window((1, 1), (2, 2), "valid", (7, 7)),
    ),
]
Pool = Callable[[tf.Tensor], tf.Tensor]


def a_map(pixels: tuple[int, int], dtype: str = "float32") -> tf.Tensor:
    """Return a map of three distinct values, so that nearly every window has several maxima."""
    values = np.random.default_rng(0).integers(0, 3, (2, *pixels, 3))
    return tf.cast(values, dtype)


def with_gradient(pool: Pool, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(x)
        pooled = pool(x)
    # NumPy draws the gradient, since XLA and TensorFlow draw different random numbers.
    upstream = np.random.default_rng(2).normal(size=pooled.shape)
    return pooled, tape.gradient(pooled, x, tf.cast(upstream, pooled.dtype))


def kernel(window: Window) -> Pool:
    return lambda x: tf.nn.max_pool2d(x, window.size, window.strides, window.padding.upper())


def bits(x: tf.Tensor) -> bytes:
    return x.numpy().tobytes()


@pytest.mark.parametrize("dtype", ["float32", *soaked("bfloat16", "float16")])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_xla_gives_the_bits_of_the_kernel_with_ties(window: Window, dtype: str) -> None:
    layer = MaxPooling2D(window.size, window.strides, window.padding, dtype=dtype)
    x = a_map(window.pixels, dtype)
    expected = with_gradient(kernel(window), x)
    found = tf.function(with_gradient, jit_compile=True)(layer, x)
    for ours, theirs in zip(found, expected, strict=True):
        assert bits(ours) == bits(theirs)


@pytest.mark.parametrize("special", [np.nan, -np.inf])
@pytest.mark.parametrize("window", WINDOWS[:3], ids=str)
def test_gradients_of_nan_and_infinity_equal_the_kernels(window: Window, special: float) -> None:
    x = a_map(window.pixels).numpy()
    x[np.random.default_rng(1).random(x.shape) < 0.6] = special
    x = tf.constant(x)
    _, expected = with_gradient(kernel(window), x)
    _, found = with_gradient(lambda x: max_pool(x, window.size, window.strides, window.padding), x)
    assert bits(found) == bits(expected)


def test_without_xla_the_layer_uses_tensorflows_kernel() -> None:
    x = a_map((8, 8))
    operations = tf.function(with_gradient).get_concrete_function(MaxPooling2D(2), x).graph
    assert "MaxPoolGrad" in {operation.type for operation in operations.get_operations()}


def test_a_loop_that_xla_compiles_takes_the_exact_gradient() -> None:
    layer, x = MaxPooling2D(2), a_map((4, 4))

    @tf.function(jit_compile=True)
    def twice(x: tf.Tensor) -> tf.Tensor:
        def add(number: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return number + 1, total + with_gradient(layer, x)[1]

        return tf.while_loop(lambda number, _: number < 2, add, (0, tf.zeros_like(x)))[1]

    assert bits(twice(x)) == bits(2 * with_gradient(layer, x)[1])


def test_a_network_of_keras_gets_the_layer_and_keeps_names_weights_and_outputs() -> None:
    keras.utils.set_random_seed(0)
    theirs = keras.applications.ResNet50(
        include_top=False, weights=None, input_shape=(32, 32, 3), name="resnet"
    )
    weights, image = theirs.get_weights(), tf.random.stateless_uniform([1, 32, 32, 3], [0, 0])
    before = theirs(image)
    paths = [variable.path for variable in theirs.variables]
    with_exact_pooling(theirs)
    assert isinstance(theirs.get_layer("pool1_pool"), MaxPooling2D)
    assert [variable.path for variable in theirs.variables] == paths
    for value, expected in zip(theirs.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(value, expected)
    assert bits(theirs(image)) == bits(before)


@pytest.mark.parametrize("name", ["VGG16", *soaked("ResNet50", "ResNet50V2", "DenseNet121")])
def test_keras_applications_pool_with_the_layer(name: str) -> None:
    network = application(name, input_shape=(32, 32, 3))
    pools = [layer for layer in network.layers if isinstance(layer, keras.layers.MaxPooling2D)]
    assert pools
    assert all(isinstance(pool, MaxPooling2D) for pool in pools)
