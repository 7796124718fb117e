"""Guards folded networks: the same outputs and names, without batch normalizations in between."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from cvpipe.models.batch_norm import FusedBatchNormalization
from cvpipe.models.folded import folded, is_foldable
from cvpipe.models.grouped_conv import GroupedConv2D

Layer = Callable[..., keras.layers.Layer]


def network(*layers: keras.layers.Layer) -> keras.Model:
    """Return a chain of layers, with random weights and statistics."""
    image = x = keras.Input([8, 8, 4])
    for layer in layers:
        x = layer(x)
    return with_random_weights(keras.Model(image, x))


def with_random_weights(model: keras.Model) -> keras.Model:
    random = np.random.default_rng(0)
    for variable in model.variables:
        if "seed" not in variable.path:
            variable.assign(random.uniform(0.2, 1.2, variable.shape))
    return model


def norms(model: keras.Model) -> list[str]:
    kind = keras.layers.BatchNormalization
    return [layer.name for layer in model.layers if isinstance(layer, kind)]


def assert_same(found: keras.Model, model: keras.Model) -> None:
    images = tf.constant(np.random.default_rng(1).normal(size=(2, 8, 8, 4)), tf.float32)
    answers = (keras.tree.flatten(call(images, training=False)) for call in (found, model))
    for value, expected in zip(*answers, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)
    names = [layer.name for layer in model.layers if layer.weights]
    assert set(names) <= {layer.name for layer in found.layers}


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.Conv2D(6, 3, 2, padding="same", use_bias=False),
        lambda: keras.layers.Conv2D(6, 3, dilation_rate=2),
        lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False),
        lambda: GroupedConv2D(6, 3, groups=2, use_bias=False),
        lambda: keras.layers.Dense(5),
    ],
)
@pytest.mark.parametrize(
    "norm",
    [
        lambda: FusedBatchNormalization(epsilon=0.1),
        lambda: keras.layers.BatchNormalization(scale=False),
        lambda: keras.layers.BatchNormalization(center=False),
    ],
)
def test_a_norm_after_a_linear_layer_becomes_part_of_it(layer: Layer, norm: Layer) -> None:
    model = network(layer(), norm(), keras.layers.Activation("relu6"))
    before = [value.copy() for value in model.get_weights()]
    found = folded(model)
    assert_same(found, model)
    assert len(norms(model)) == 1 and not norms(found)
    assert is_foldable(model) and not is_foldable(found)
    for value, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, kept)


def branching(read_twice: bool) -> keras.Model:
    """Return a network with a convolution that is read twice, or is an output beside its norm."""
    image = keras.Input([8, 8, 4])
    convolved = keras.layers.Conv2D(4, 3, padding="same")(image)
    normalized = keras.layers.BatchNormalization()(convolved)
    added = keras.layers.Add()([normalized, convolved if read_twice else image])
    return with_random_weights(keras.Model(image, added if read_twice else [added, convolved]))


def shared() -> keras.Model:
    """Return a network that uses one convolution at two places, with a norm after each."""
    image = keras.Input([8, 8, 4])
    layer = keras.layers.Conv2D(4, 3, padding="same")
    first = keras.layers.BatchNormalization()(layer(image))
    return with_random_weights(keras.Model(image, keras.layers.BatchNormalization()(layer(first))))


@pytest.mark.parametrize(
    "model",
    [
        lambda: branching(True),
        lambda: branching(False),
        shared,
        lambda: network(
            keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.BatchNormalization()
        ),
        lambda: network(keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(axis=1)),
        lambda: network(keras.layers.BatchNormalization(), keras.layers.Conv2D(4, 3)),
    ],
)
def test_a_norm_stays_where_it_cant_be_part_of_one_layer(model: Callable[[], keras.Model]) -> None:
    original = model()
    found = folded(original)
    assert_same(found, original)
    assert norms(found) == norms(original)


def test_a_part_of_a_network_is_folded_for_images_of_another_size() -> None:
    model = network(
        keras.layers.Conv2D(4, 3, padding="same", name="first"),
        keras.layers.BatchNormalization(),
        keras.layers.Conv2D(4, 3, padding="same", name="last"),
        keras.layers.BatchNormalization(),
    )
    part = keras.Model(model.inputs, model.get_layer("last").output)
    found = folded(part, [keras.Input([12, 5, 4])])
    assert found.output_shape == (None, 12, 5, 4) and not norms(found)
    assert_same(folded(part), part)
