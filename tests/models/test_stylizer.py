"""Guards the stylizer: conditional instance norm against its definition, and images of any size."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from cvpipe.config.style import StyleModel
from cvpipe.models.stylizer import ConditionalInstanceNorm, stylizer


def norm(styles: int) -> tuple[ConditionalInstanceNorm, tf.Tensor]:
    random = np.random.default_rng(0)
    x = tf.constant(random.normal(2, 3, (2, 5, 7, 4)), tf.float32)
    layer = ConditionalInstanceNorm()
    layer([x, tf.ones([2, styles])])
    layer.gamma.assign(random.normal(size=(styles, 4)))
    layer.beta.assign(random.normal(size=(styles, 4)))
    return layer, x


def test_conditional_instance_norm_is_its_definition() -> None:
    layer, x = norm(3)
    weights = np.float32([[0, 1, 0], [0.25, 0, 0.75]])
    mean, variance = x.numpy().mean((1, 2), keepdims=True), x.numpy().var((1, 2), keepdims=True)
    scale, shift = (weights @ of_styles.numpy() for of_styles in (layer.gamma, layer.beta))
    expected = (x - mean) / np.sqrt(variance + 1e-5) * scale[:, None, None] + shift[:, None, None]
    np.testing.assert_allclose(layer([x, weights]), expected, rtol=1e-4, atol=1e-5)


def test_with_one_style_the_layer_is_instance_norm() -> None:
    layer, x = norm(1)
    instance = keras.layers.GroupNormalization(4, epsilon=1e-5)
    instance.build(x.shape)
    instance.gamma.assign(layer.gamma[0])
    instance.beta.assign(layer.beta[0])
    np.testing.assert_allclose(layer([x, tf.ones([2, 1])]), instance(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(24, 24), (32, 48)])
def test_pictures_have_the_photos_size_and_depend_on_the_style(size: tuple[int, int]) -> None:
    keras.utils.set_random_seed(0)
    network = stylizer(StyleModel(width=0.125, residual_blocks=1), 2)
    for layer in network.layers:
        if isinstance(layer, ConditionalInstanceNorm):
            layer.gamma.assign(np.random.default_rng(1).normal(size=layer.gamma.shape))
    x = tf.constant(np.random.default_rng(0).normal(size=(2, *size, 3)), tf.float32)
    pictures = network([x, tf.eye(2)])["picture"].numpy()
    assert pictures.shape == (2, *size, 3) and pictures.min() >= 0 and pictures.max() <= 1
    other = network([x, tf.eye(2)[::-1]])["picture"].numpy()
    assert abs(pictures - other).max() > 1e-2
    alone = network([x[1:], tf.eye(2)[1:]])["picture"].numpy()
    np.testing.assert_allclose(alone[0], pictures[1], atol=1e-5)
