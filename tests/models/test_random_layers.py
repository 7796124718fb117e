"""Guards layers that drop values at random: only in training, the configured share, and with random
states named after their layers.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from cvpipe.models.blocks import Style
from cvpipe.models.build import classification_network
from cvpipe.models.random_layers import DropConnect, Dropout, StochasticDepth, linear_decay
from two_devices import run_on_two_devices


@pytest.fixture(autouse=True)
def same_weights_every_time():
    keras.utils.set_random_seed(0)


def logits_layer(rate):
    layer = DropConnect(10, rate, name="logits")
    layer.build((None, 500))
    layer.kernel.assign(np.random.default_rng(0).uniform(1, 2, (500, 10)))
    layer.bias.assign(np.arange(10))
    return layer


RANDOM = {
    "dropout": lambda rate: Dropout(rate, "one"),
    "stochastic depth": lambda rate: StochasticDepth(rate, "one"),
}


# -- shares and means


@pytest.mark.parametrize("name", RANDOM)
def test_a_share_is_dropped_in_training_and_nothing_in_evaluation(name):
    layer, x = RANDOM[name](0.25), np.ones((1000, 2, 3, 4), "float32")
    output = np.asarray(layer(x, training=True))
    assert set(np.unique(output)) == {np.float32(0), np.float32(1) / np.float32(0.75)}
    assert np.mean(output == 0) == pytest.approx(0.25, abs=0.04)
    np.testing.assert_array_equal(layer(x, training=False), x)


@pytest.mark.parametrize("name", RANDOM)
def test_another_mask_is_drawn_each_time(name):
    layer, x = RANDOM[name](0.5), np.ones((100, 1, 1, 1), "float32")
    assert np.any(np.asarray(layer(x, training=True)) != np.asarray(layer(x, training=True)))


@pytest.mark.parametrize("rate", [0.004, 0.02])
def test_half_precision_drops_the_same_share(rate):
    # A uniform draw in bfloat16 never lies between 0 and 0.0078, so rates would be wrong.
    outputs = np.asarray(
        StochasticDepth(rate, "one")(tf.ones([100_000, 1, 1, 1], tf.bfloat16), training=True)
    ).astype("float32")
    assert np.mean(outputs == 0) == pytest.approx(rate, rel=0.15)


def test_a_whole_branch_is_dropped_for_each_example_separately():
    output = np.asarray(
        StochasticDepth(0.5, "one")(np.ones((50, 3, 4, 5), "float32"), training=True)
    ).reshape(50, -1)
    assert np.all(output == output[:, :1])
    assert 10 < np.sum(output[:, 0] == 0) < 40


def test_drop_connect_drops_the_same_weights_for_a_whole_batch():
    layer = logits_layer(0.25)
    # For two identity matrices as input, the output is two copies of the weights, plus biases.
    weights = np.asarray(
        layer(np.tile(np.eye(500, dtype="float32"), (2, 1)), training=True)
    ) - np.arange(10)
    np.testing.assert_array_equal(weights[:500], weights[500:])
    kept = np.abs(weights[:500]) > 1e-4
    assert np.mean(kept) == pytest.approx(0.75, abs=0.03)
    np.testing.assert_allclose(
        weights[:500][kept], (np.asarray(layer.kernel) / 0.75)[kept], rtol=1e-4, atol=1e-5
    )


def test_drop_connect_is_a_dense_layer_in_evaluation():
    layer, x = logits_layer(0.25), np.random.default_rng(1).normal(size=(3, 500)).astype("float32")
    np.testing.assert_allclose(
        layer(x, training=False), x @ np.asarray(layer.kernel) + np.arange(10), rtol=1e-4
    )
    assert np.any(
        np.abs(np.asarray(layer(x, training=True)) - np.asarray(layer(x, training=True))) > 0.1
    )


def test_the_gradient_of_a_dropped_weight_is_zero():
    layer = logits_layer(0.5)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(np.ones((4, 500), "float32"), training=True))
    gradient = tape.gradient(total, layer.kernel.value).numpy()
    assert set(np.unique(gradient)) == {0.0, 8.0}


# -- in networks


def rates(name, last, **settings):
    model = classification_network(
        name, (32, 32, 3), 4, style=Style(stochastic_depth=last), **settings
    )
    return [layer.rate for layer in model.layers if isinstance(layer, StochasticDepth)]


@pytest.mark.parametrize("name, blocks", [("resnet20", 9), ("resnet50", 16), ("mobilenet_v2", 10)])
def test_the_drop_rate_of_residual_branches_increases_linearly(name, blocks):
    found = rates(name, 0.5, width=0.5)
    assert found == linear_decay(blocks, 0.5)
    assert found == pytest.approx([0.5 * (n + 1) / blocks for n in range(blocks)])


def test_narrow_mobilenets_drop_more_blocks():
    # At this width, the first block keeps the number of channels, so it has a residual branch, too.
    assert rates("mobilenet_v2", 0.5, width=0.25) == pytest.approx(
        [0.5 * (n + 1) / 11 for n in range(11)]
    )


def test_a_network_without_dropping_has_no_random_state():
    model = classification_network("resnet20", (16, 16, 3), 4, width=0.25)
    assert not [variable.path for variable in model.variables if "seed" in variable.path]


def network_with_all_random_layers(name):
    return classification_network(
        name,
        (32, 32, 3),
        4,
        width=0.25,
        dropout=0.1,
        drop_connect=0.1,
        style=Style(stochastic_depth=0.5),
    )


def test_the_state_is_named_after_its_layer_not_after_earlier_layers():
    first, second = [
        [variable.path for variable in network_with_all_random_layers("resnet20").variables]
        for _ in range(2)
    ]
    assert first == second and len(set(first)) == len(first)
    states = [path for path in first if path.endswith("seed_generator_state")]
    blocks = [
        f"stage{stage}_block{block}_drop/seed_generator_state"
        for stage in (1, 2, 3)
        for block in (1, 2, 3)
    ]
    assert sorted(states) == sorted(
        [*blocks, "dropout/seed_generator_state", "logits/seed_generator_state"]
    )
    assert {"logits/kernel", "logits/bias"} <= set(first)


@pytest.mark.parametrize("name", [*RANDOM, "drop connect"])
def test_xla_compiles_a_training_step_of_a_random_layer(name):
    layer = logits_layer(0.25) if name == "drop connect" else RANDOM[name](0.25)
    x = tf.ones([64, 500]) if name == "drop connect" else tf.ones([64, 5, 10, 10])

    @tf.function(jit_compile=True)
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x, training=True)
        return output, tape.gradient(output, x)

    (first, gradient), (second, _) = step(x), step(x)
    assert np.any(first != second)
    np.testing.assert_allclose(np.mean(first), np.mean(layer(x, training=False)), rtol=0.2)
    if name != "drop connect":
        np.testing.assert_array_equal(gradient, first)


def test_logits_are_float32_and_half_precision_trains():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = network_with_all_random_layers("resnet20")
    finally:
        keras.config.set_dtype_policy(before)
    logits = model(tf.random.stateless_normal((2, 32, 32, 3), (0, 0)), training=True)["logits"]
    assert logits.dtype == tf.float32 and np.isfinite(logits).all()


@pytest.mark.soak
def test_replicas_draw_different_masks_and_keep_the_same_state():
    script = """
from cvpipe.models.random_layers import Dropout
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    dropout = Dropout(0.5, "dropout")
run = tf.function(lambda: strategy.run(lambda: dropout(tf.ones([64]), training=True)))
one, two = strategy.experimental_local_results(run())
assert tf.reduce_any(one != two)
assert abs(float(tf.reduce_mean(two)) - 1) < 0.5
states = strategy.experimental_local_results(dropout.seed_generator.state.value)
one, two = (copy.numpy().tolist() for copy in states)
assert one == two and one[1] == 1, (one, two)
"""
    run_on_two_devices(script)
