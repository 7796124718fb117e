"""Guards fractional max-pooling, against its definition and TensorFlow's."""

from __future__ import annotations

import itertools
from math import ceil, sqrt

import keras
import numpy as np
import pytest
import tensorflow as tf

from cvpipe.errors import ConfigError
from cvpipe.models.build import classification_network
from cvpipe.models.describe import describe
from cvpipe.models.fractional import FractionalMaxPooling, even_edges, pool_regions, random_edges


@pytest.fixture(autouse=True)
def same_weights_every_time():
    keras.utils.set_random_seed(0)


def maps(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def pooled(x, rows, columns, overlapping):
    """Return the maximum over every region, computed pixel by pixel."""
    reach = 1 if overlapping else 0
    return np.array(
        [
            [
                x[:, a : b + reach, c : d + reach].max(axis=(1, 2))
                for c, d in itertools.pairwise(columns)
            ]
            for a, b in itertools.pairwise(rows)
        ]
    ).transpose(2, 0, 1, 3)


# -- edges


@pytest.mark.parametrize(
    "pixels, regions", [(36, 25), (25, 18), (7, 5), (8, 4), (5, 5), (2, 1), (1, 1)]
)
def test_edges_go_from_end_to_end_by_ones_and_twos(pixels, regions):
    drawn = [random_edges(pixels, regions, tf.constant([seed, 0])).numpy() for seed in range(5)]
    for edges in (even_edges(pixels, regions), *drawn):
        assert edges.dtype == np.int32
        assert (edges[0], edges[-1], len(edges)) == (0, pixels, regions + 1)
        assert set(np.diff(edges)) <= {1, 2}


def test_every_order_of_ones_and_twos_is_equally_likely():
    draw = tf.function(lambda seed: random_edges(6, 4, seed))
    drawn = [tuple(np.diff(draw(tf.constant([seed, 1])))) for seed in range(600)]
    orders = {order: drawn.count(order) for order in set(drawn)}
    assert len(orders) == 6
    assert all(60 < count < 140 for count in orders.values())


@pytest.mark.parametrize("pixels, regions", [(36, 25), (17, 10), (100, 71)])
def test_even_edges_are_the_papers_formula(pixels, regions):
    formula = [ceil(pixels / regions * (i + 0.5)) for i in range(regions + 1)]
    np.testing.assert_array_equal(even_edges(pixels, regions), np.array(formula) - formula[0])


# -- the layer


@pytest.mark.parametrize("overlapping", [False, True])
def test_regions_are_pooled_as_tensorflow_pools_them(overlapping):
    x = maps(2, 13, 10, 3)
    expected, rows, columns = (
        value.numpy()
        for value in tf.nn.fractional_max_pool(
            x, sqrt(2), pseudo_random=False, overlapping=overlapping, seed=7
        )
    )
    if overlapping:
        # TensorFlow's last region ends with the image, so it alone doesn't overlap a next region.
        x = np.pad(x, [(0, 0), (0, 1), (0, 1), (0, 0)], constant_values=-np.inf)
        x = np.maximum(x[:, :-1], x[:, 1:])
        x = np.maximum(x[:, :, :-1], x[:, :, 1:])
    found = pool_regions(
        tf.constant(x), tf.constant(rows, tf.int32), tf.constant(columns, tf.int32)
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("ratio", [sqrt(2), 2 ** (1 / 3)])
@pytest.mark.parametrize("overlapping", [False, True])
def test_evaluation_takes_the_maximum_of_the_even_regions(overlapping, ratio):
    x = maps(2, 12, 17, 3)
    found = FractionalMaxPooling(ratio, "pool", overlapping)(x, training=False)
    shared = int(overlapping)
    rows, columns = (even_edges(pixels - shared, round(pixels / ratio)) for pixels in (12, 17))
    np.testing.assert_array_equal(found, pooled(x, rows, columns, overlapping))


def test_training_draws_other_regions_each_time_of_the_same_number():
    layer, x = FractionalMaxPooling(sqrt(2), "pool"), maps(1, 20, 20, 1)
    one, two = (np.asarray(layer(x, training=True)) for _ in range(2))
    assert one.shape == two.shape == layer(x, training=False).shape == (1, 14, 14, 1)
    assert np.any(one != two)
    assert set(one.ravel()) <= set(x.ravel())


def test_the_gradient_goes_to_the_maxima_alone():
    layer, x = FractionalMaxPooling(1.5, "pool"), tf.constant(maps(1, 9, 9, 2))
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = layer(x, training=True)
    gradient = tape.gradient(output, x).numpy()
    values, counts = np.unique(output, return_counts=True)
    expected = np.zeros(x.shape)
    for value, count in zip(values, counts):
        expected[x.numpy() == value] = count
    np.testing.assert_array_equal(gradient, expected)


# -- the network


def test_fmp6_sqrt2_has_the_published_maps_and_parameters():
    model = classification_network("fmp6_sqrt2", (36, 36, 1), 10)
    sizes = [model.get_layer(f"level{level}").output.shape[1] for level in range(1, 9)]
    assert sizes == [35, 24, 16, 10, 6, 3, 1, 1]
    maps = [1, 32, 64, 96, 128, 160, 192, 224]
    convolutions = sum(4 * x * y + y for x, y in itertools.pairwise(maps)) + 224 * 256 + 256
    assert describe("fmp6_sqrt2")["parameters"] == convolutions + 256 * 10 + 10


@pytest.mark.parametrize("height, width", [(30, 30), (32, 32), (41, 57)])
def test_images_of_other_sizes_are_classified(height, width):
    model = classification_network("fmp6_sqrt2", (height, width, 3), 4, width=0.1)
    assert model(maps(2, height, width, 3), training=True)["logits"].shape == (2, 4)


def test_too_small_an_image_is_an_error():
    with pytest.raises(ConfigError, match="fmp6_sqrt2.*30×30.*28×28.*prepare.size"):
        classification_network("fmp6_sqrt2", (28, 28, 1), 10)


def test_the_random_state_of_each_pooling_is_named_after_it():
    first, second = [
        [
            variable.path
            for variable in classification_network(
                "fmp6_sqrt2", (30, 30, 1), 4, width=0.1
            ).variables
        ]
        for _ in range(2)
    ]
    assert first == second
    assert {f"level{level}_pool/seed_generator_state" for level in range(1, 7)} < set(first)


@pytest.mark.parametrize("jit", [False, True])
def test_fractional_pooling_trains_in_graphs(jit):
    layer, x = FractionalMaxPooling(1.5, "pool"), tf.constant(maps(2, 9, 9, 2))

    @tf.function(jit_compile=jit)
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x, training=True)
        return output, tape.gradient(output, x)

    (first, gradient), (second, _) = step(x), step(x)
    assert np.any(first != second)
    # The gradient of each maximum goes to one pixel alone.
    np.testing.assert_allclose(np.sum(gradient.numpy() * x.numpy()), np.sum(first), rtol=1e-4)
    assert np.sum(gradient) == first.numpy().size
    # Evaluation only selects values, so XLA's results are equal bit for bit.
    evaluate = tf.function(lambda x: layer(x, training=False), jit_compile=jit)
    np.testing.assert_array_equal(evaluate(x), layer(x, training=False))


def test_a_gradient_reaches_every_kernel():
    model = classification_network("fmp6_sqrt2", (30, 30, 1), 4, width=0.1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(maps(4, 30, 30, 1), training=True)["logits"]))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    assert all(np.any(gradient) for gradient in gradients)


def test_an_export_pools_as_evaluation_does(tmp_path):
    model = classification_network("fmp6_sqrt2", (30, 30, 1), 4, width=0.1)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serve", lambda image: model(image, training=False), [tf.TensorSpec([None, 30, 30, 1])]
    )
    archive.write_out(str(tmp_path), verbose=False)
    images = maps(3, 30, 30, 1)
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(
        loaded.serve(images)["logits"], model(images, training=False)["logits"], atol=1e-6
    )
