"""Guards normalization layers, against their definitions in NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from cvpipe.errors import ConfigError
from cvpipe.models.batch_norm import FusedBatchNormalization
from cvpipe.models.blocks import Style, conv_norm, depthwise_norm
from cvpipe.models.build import classification_network
from cvpipe.models.norms import Norm
from two_devices import run_on_two_devices

SHAPE = (5, 6, 12)


def normalize(norm, x):
    image = keras.Input(x.shape[1:])
    model = keras.Model(image, norm(image, "norm"))
    draw = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(draw.normal(size=variable.shape))
    gamma, beta = (variable.numpy() for variable in model.trainable_variables)
    return np.asarray(model(x), np.float64), gamma, beta


@pytest.fixture
def maps():
    # Each channel and example has a different mean and deviation.
    draw = np.random.default_rng(0)
    return (
        draw.normal(size=(3, *SHAPE)) * draw.uniform(0.5, 3, (3, 1, 1, 12))
        + draw.normal(size=(3, 1, 1, 12)) * 5
    ).astype("float32")


@pytest.mark.parametrize(
    "norm, groups",
    [
        (Norm("layer"), 1),
        (Norm("instance"), 12),
        (Norm("group", groups=4), 4),
        (Norm("group", groups=5), 4),
        (Norm("group"), 12),
    ],
)
def test_mean_and_variance_are_those_of_each_examples_groups_of_channels(norm, groups, maps):
    found, gamma, beta = normalize(norm, maps)
    expected = np.empty_like(maps, np.float64)
    for example in range(3):
        for first in range(0, 12, 12 // groups):
            part = maps[example, :, :, first : first + 12 // groups].astype(np.float64)
            expected[example, :, :, first : first + 12 // groups] = (part - part.mean()) / np.sqrt(
                part.var() + norm.epsilon
            )
    np.testing.assert_allclose(found, expected * gamma + beta, atol=1e-4)


@pytest.mark.parametrize(
    "channels, most, groups", [(64, 32, 32), (24, 32, 24), (24, 16, 12), (7, 4, 1), (1, 32, 1)]
)
def test_channels_are_divided_into_as_many_equal_groups_as_allowed(channels, most, groups):
    assert Norm("group", groups=most).groups_of(channels) == groups


@pytest.mark.parametrize("kind", ["layer", "instance", "group"])
def test_half_precision_has_float32_statistics_and_weights(kind, maps):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        image = keras.Input(SHAPE)
        model = keras.Model(image, Norm(kind, groups=4)(image, "norm"))
        # The squares of these values exceed float16's maximum of 65504.
        found = model(tf.constant(maps * 1000))
    finally:
        keras.config.set_dtype_policy(before)
    assert found.dtype == tf.float16
    assert {variable.dtype for variable in model.variables} == {"float32"}
    assert np.isfinite(found).all() and np.std(found) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("kind", ["batch", "layer", "instance", "group", "none"])
@pytest.mark.parametrize("block", ["conv", "depthwise"])
def test_a_convolution_has_a_bias_only_without_norm(kind, block):
    image, style = keras.Input(SHAPE), Style(Norm(kind))
    if block == "conv":
        output = conv_norm(image, 8, 3, 1, style=style, activation="relu", name="c")
    else:
        output = depthwise_norm(image, 3, 1, style=style, activation="relu", name="c")
    trainable = [variable.path for variable in keras.Model(image, output).trainable_variables]
    assert trainable == [
        "c/kernel",
        *(["c/bias"] if kind == "none" else ["c_norm/gamma", "c_norm/beta"]),
    ]


@pytest.mark.parametrize("kind", ["layer", "instance", "group", "none"])
def test_without_batch_statistics_an_example_trains_as_it_does_alone(kind):
    model = classification_network("resnet20", (16, 16, 3), 4, width=0.25, style=Style(Norm(kind)))
    images = tf.random.stateless_normal((3, 16, 16, 3), (0, 0))
    together = model(images, training=True)["logits"]
    np.testing.assert_allclose(
        model(images[:1], training=True)["logits"], together[:1], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        model(images, training=False)["logits"], together, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", ["resnet20", "resnet50", "mobilenet_v2"])
def test_networks_without_norm_neither_explode_nor_vanish_at_first(name):
    keras.utils.set_random_seed(0)
    model = classification_network(name, (64, 64, 3), 10, width=0.5, style=Style(Norm("none")))
    pooled = keras.Model(model.input, model.get_layer("pool").output)(
        tf.random.stateless_normal((4, 64, 64, 3), (0, 0))
    )
    assert 0.05 < np.std(pooled) < 5


@pytest.mark.parametrize("norm", [Norm("instance"), Norm("group")])
def test_a_norm_of_single_numbers_is_an_error(norm):
    with pytest.raises(ConfigError, match="model.norm.*stage4_block1.*1×1.*prepare.size"):
        classification_network("resnet18", (32, 32, 3), 10, width=0.05, style=Style(norm))


@pytest.mark.parametrize("examples, synchronized", [(3, False), (1, False), (3, True)])
def test_batch_normalization_is_that_of_keras(examples, synchronized, maps):
    x, draw = tf.constant(maps[:examples]), np.random.default_rng(2)
    scale, shift, weights = (
        draw.normal(size=12),
        draw.normal(size=12),
        tf.constant(draw.normal(size=x.shape), tf.float32),
    )
    results = []
    for kind in (keras.layers.BatchNormalization, FusedBatchNormalization):
        layer = kind(momentum=0.9, epsilon=1e-5, synchronized=synchronized)
        layer.build(x.shape)
        layer.gamma.assign(scale)
        layer.beta.assign(shift)
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x, training=True)
            total = tf.reduce_sum(weights * output)
        gradients = tape.gradient(
            total, [x, *(variable.value for variable in layer.trainable_variables)]
        )
        results.append(
            [
                output,
                *gradients,
                *(variable.value for variable in layer.non_trainable_variables),
                layer(x, training=False),
            ]
        )
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype, error", [("bfloat16", 2**-7), ("float16", 2**-9)])
def test_batch_normalization_of_half_precision_has_the_statistics_of_float32(dtype, error, maps):
    x = tf.cast(maps, dtype)
    found, expected = (
        FusedBatchNormalization(dtype=policy) for policy in (f"mixed_{dtype}", "float32")
    )
    output, exact = (layer(x, training=True) for layer in (found, expected))
    assert output.dtype == dtype and found.moving_variance.dtype == "float32"
    np.testing.assert_allclose(output, exact, rtol=error, atol=error)
    np.testing.assert_allclose(found.moving_mean, expected.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(found.moving_variance, expected.moving_variance, rtol=1e-5)


def test_a_frozen_batch_normalization_keeps_its_statistics(maps):
    layer = FusedBatchNormalization()
    layer.build(maps.shape)
    layer.trainable = False
    np.testing.assert_array_equal(layer(maps, training=True), layer(maps, training=False))
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(12))


@pytest.mark.soak
def test_replicas_exchange_once_and_have_the_statistics_and_gradients_of_the_whole_batch():
    script = """
import numpy as np
from cvpipe.models.batch_norm import FusedBatchNormalization
x = tf.random.stateless_normal((4, 5, 6, 3), (0, 0)) * (1, 2, 3) + (4, 5, 6)
exchanges = []
exchange = tf.distribute.ReplicaContext.all_reduce
tf.distribute.ReplicaContext.all_reduce = lambda *all, **named: (
    exchanges.append(all), exchange(*all, **named))[1]
def passes(layer, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        total = tf.reduce_sum(y * tf.math.cumsum(x, 1))
    return y, tape.gradient(total, x)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    layer = FusedBatchNormalization(synchronized=True)
    layer.build(x.shape)
def of_replica():
    first = 2 * tf.distribute.get_replica_context().replica_id_in_sync_group
    return passes(layer, x[first : first + 2])
results = tf.function(lambda: strategy.run(of_replica))()
together = [tf.concat(strategy.experimental_local_results(x), 0) for x in results]
assert len(exchanges) == 2 * 2, len(exchanges)
alone = FusedBatchNormalization()
for given, expected in zip(together, passes(alone, x), strict=True):
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-4)
np.testing.assert_allclose(layer.moving_mean, alone.moving_mean, rtol=1e-5)
"""
    run_on_two_devices(script)
