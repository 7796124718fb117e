"""Guards transposed convolutions and unpooling, against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cvpipe.models.upsampling import (
    MaxPoolingWithPositions,
    Unpooling,
    bed_of_nails,
    bilinear_kernel,
    max_pool,
    max_unpool,
    nearest,
    upsample,
)

# CS231n, lecture 11, In-network upsampling.
LECTURE = [[1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]]
POOLED = [[5, 6], [7, 8]]
SMALL = [[1, 2], [3, 4]]
SIZES = [(4, 4, 2), (5, 7, 2), (1, 1, 2), (7, 5, 3), (2, 9, 4)]
"""Height, width and window of a map."""


def as_map(rows):
    return tf.constant(rows, tf.float32)[tf.newaxis, :, :, tf.newaxis]


def as_rows(x):
    return np.asarray(x)[0, :, :, 0].tolist()


def some_map(rows, columns, ties=True):
    """Return two images with three channels; with ties, as after a ReLU, most windows have several
    equal maxima.
    """
    x = np.random.default_rng(0).normal(size=(2, rows, columns, 3)).astype("float32")
    return np.maximum(np.round(x), 0) if ties else x


def pooled_by_hand(x, window):
    """Return maxima, their positions in the window, and a mask of each window's first maximum."""
    batch, rows, columns, channels = x.shape
    shape = (batch, -(-rows // window), -(-columns // window), channels)
    values, positions, first = (
        np.zeros(shape, x.dtype),
        np.zeros(shape, "uint8"),
        np.zeros(x.shape, bool),
    )
    for b, i, j, c in np.ndindex(shape):
        pixels = x[b, i * window : (i + 1) * window, j * window : (j + 1) * window, c]
        row, column = np.unravel_index(np.argmax(pixels), pixels.shape)
        values[b, i, j, c], positions[b, i, j, c] = pixels[row, column], row * window + column
        first[b, i * window + row, j * window + column, c] = True
    return values, positions, first


# -- the lecture's examples


def test_max_unpooling_puts_values_where_the_maxima_were():
    values, positions = max_pool(as_map(LECTURE), 2)
    assert as_rows(values) == POOLED
    assert as_rows(max_unpool(as_map(SMALL), positions, 2, (4, 4))) == [
        [0, 0, 2, 0],
        [0, 1, 0, 0],
        [0, 0, 0, 0],
        [3, 0, 0, 4],
    ]


def test_bed_of_nails_puts_values_into_the_upper_left():
    assert as_rows(bed_of_nails(as_map(SMALL), 2, (4, 4))) == [
        [1, 0, 2, 0],
        [0, 0, 0, 0],
        [3, 0, 4, 0],
        [0, 0, 0, 0],
    ]


def test_nearest_repeats_values():
    assert as_rows(nearest(as_map(SMALL), 2, (4, 4))) == [
        [1, 1, 2, 2],
        [1, 1, 2, 2],
        [3, 3, 4, 4],
        [3, 3, 4, 4],
    ]


def test_a_transposed_convolution_adds_up_copies_of_its_filter():
    a, b, x, y, z = 2.0, 3.0, 5.0, 7.0, 11.0
    layer = keras.layers.Conv2DTranspose(1, (1, 3), (1, 2), padding="valid", use_bias=False)
    image = as_map([[a, b]])
    layer.build(image.shape)
    layer.set_weights([np.reshape([x, y, z], (1, 3, 1, 1))])
    assert as_rows(layer(image)) == [[a * x, a * y, a * z + b * x, b * y, b * z]]


# -- pooling and unpooling


@pytest.mark.parametrize("rows, columns, window", SIZES)
@pytest.mark.parametrize("ties", [True, False])
def test_pooling_records_the_position_of_the_first_maximum(rows, columns, window, ties):
    x = some_map(rows, columns, ties)
    values, positions = max_pool(tf.constant(x), window)
    expected, where, _ = pooled_by_hand(x, window)
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(positions, where)
    assert positions.dtype == tf.uint8


def test_pooling_never_selects_padding():
    values, positions = max_pool(tf.fill([1, 3, 3, 1], -np.inf), 2)
    assert np.all(values == -np.inf)
    assert not np.any(positions)


@pytest.mark.parametrize("rows, columns, window", SIZES)
def test_unpooling_what_was_pooled_leaves_the_maxima_and_zeros(rows, columns, window):
    x = some_map(rows, columns)
    values, positions = max_pool(tf.constant(x), window)
    _, _, first = pooled_by_hand(x, window)
    np.testing.assert_array_equal(
        max_unpool(values, positions, window, (rows, columns)), np.where(first, x, 0)
    )


@pytest.mark.parametrize("rows, columns, window", SIZES)
def test_nails_and_nearest_have_the_recorded_size(rows, columns, window):
    x = some_map(-(-rows // window), -(-columns // window), ties=False)
    repeated = np.repeat(np.repeat(x, window, 1), window, 2)[:, :rows, :columns]
    np.testing.assert_array_equal(nearest(tf.constant(x), window, (rows, columns)), repeated)
    nails = np.zeros_like(repeated)
    nails[:, ::window, ::window] = x
    np.testing.assert_array_equal(bed_of_nails(tf.constant(x), window, (rows, columns)), nails)


@pytest.mark.parametrize("rows, columns, window", SIZES)
def test_the_whole_gradient_of_pooling_goes_to_the_pixel_it_took(rows, columns, window):
    x = tf.constant(some_map(rows, columns))
    _, _, first = pooled_by_hand(x.numpy(), window)
    weights = tf.random.stateless_normal(max_pool(x, window)[0].shape, (1, 2))
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(max_pool(x, window)[0] * weights)
    expected = np.where(first, np.asarray(nearest(weights, window, (rows, columns))), 0)
    np.testing.assert_allclose(tape.gradient(loss, x), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["max", "bed_of_nails", "nearest"])
def test_the_gradient_of_unpooling_is_its_transpose(kind):
    _, positions = max_pool(tf.constant(some_map(5, 7)), 2)
    layer = Unpooling(kind, (5, 7), name="unpool")
    x = tf.constant(some_map(3, 4, ties=False))
    weights = tf.random.stateless_normal((2, 5, 7, 3), (1, 2))
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, positions) * weights)
    # The layer is linear, so for any input the loss is the sum of gradient times input.
    gradient, other = tape.gradient(loss, x), tf.random.stateless_normal(x.shape, (3, 4))
    np.testing.assert_allclose(
        tf.reduce_sum(gradient * other), tf.reduce_sum(layer(other, positions) * weights), rtol=1e-4
    )


@pytest.mark.parametrize("kind", ["max", "bed_of_nails", "nearest"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_xla_pools_and_unpools_equally_in_every_dtype(kind, dtype):
    pool, unpool = (
        MaxPoolingWithPositions(name="pool", dtype=dtype),
        Unpooling(kind, (5, 7), name="unpool"),
    )
    unpool.dtype_policy = keras.DTypePolicy(dtype)

    def there_and_back(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            values, positions = pool(x)
            y = unpool(values, positions)
            loss = tf.reduce_sum(tf.square(y))
        return values, positions, y, tape.gradient(loss, x)

    x = tf.cast(some_map(5, 7), dtype)
    plain, compiled = there_and_back(x), tf.function(there_and_back, jit_compile=True)(x)
    assert plain[0].dtype == plain[2].dtype == x.dtype
    for one, other in zip(plain, compiled):
        np.testing.assert_array_equal(tf.cast(one, tf.float32), tf.cast(other, tf.float32))


# -- bilinear upsampling


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8, 16, 32])
def test_a_transposed_convolution_starts_out_as_bilinear_interpolation(factor):
    image = keras.Input((5, 6, 3))
    model = keras.Model(image, upsample(image, factor, learned=True, name="upsample"))
    x = some_map(5, 6, ties=False)
    size = (5 * factor, 6 * factor)
    inside = (slice(None), *(slice(factor // 2, pixels - factor // 2) for pixels in size))
    np.testing.assert_allclose(
        model(x).numpy()[inside], tf.image.resize(x, size).numpy()[inside], atol=1e-5
    )
    compiled = tf.function(model, jit_compile=True)(x)
    np.testing.assert_allclose(compiled, model(x), atol=1e-5)


@pytest.mark.parametrize(
    "factor, row", [(2, [1 / 4, 3 / 4, 3 / 4, 1 / 4]), (3, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])]
)
def test_a_bilinear_kernel_is_a_tent_for_each_channel(factor, row):
    kernel = bilinear_kernel((len(row), len(row), 2, 3)).numpy()
    for there, here in np.ndindex(2, 3):
        np.testing.assert_allclose(
            kernel[:, :, there, here], np.outer(row, row) if there == here else 0, rtol=1e-6
        )


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8, 16, 32])
def test_fixed_upsampling_equals_learned_upsampling_before_training(factor):
    image = keras.Input((5, 6, 3))
    learned, fixed = (
        keras.Model(image, upsample(image, factor, learned=learned, name="upsample"))
        for learned in (True, False)
    )
    x = some_map(5, 6, ties=False)
    np.testing.assert_allclose(fixed(x), learned(x), atol=1e-6)
    compiled = tf.function(fixed, jit_compile=True)(x)
    np.testing.assert_allclose(compiled, fixed(x), atol=1e-6)


def test_only_learned_upsampling_has_a_variable():
    image = keras.Input((5, 6, 3))
    learned, fixed = (
        keras.Model(image, upsample(image, 4, learned=learned, name="upsample"))
        for learned in (True, False)
    )
    assert [(variable.path, tuple(variable.shape)) for variable in learned.trainable_variables] == [
        ("upsample/kernel", (8, 8, 3, 3))
    ]
    assert not fixed.variables
