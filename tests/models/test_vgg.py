"""Guards VGG: the published parameters, shapes and layers."""

from math import ceil, prod

import keras
import numpy as np
import pytest
import tensorflow as tf

from cvpipe.models.blocks import Style
from cvpipe.models.vgg import L2Normalization, ssd_vgg16, vgg16


def small(backbone, shape, width=1 / 64):
    image = keras.Input(shape)
    return keras.Model(image, backbone(image, width=width, style=Style()))


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


# -- VGG16


def test_the_convolutions_compute_what_keras_applications_does():
    theirs = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    ours = small(vgg16, (32, 32, 3), width=1)
    assert sum(prod(variable.shape) for variable in ours.trainable_variables) == 14_714_688
    assert [variable.shape for variable in ours.weights] == [
        variable.shape for variable in theirs.weights
    ]
    ours.set_weights(theirs.get_weights())
    x = 100 * normal(2, 32, 32, 3)
    expected = theirs(x)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(ours(x)[32], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("height, width", [(300, 300), (75, 64), (33, 97)])
@pytest.mark.parametrize("backbone, strides", [(vgg16, [1, 2, 4, 8, 16, 32]), (ssd_vgg16, [8, 16])])
def test_a_map_has_a_pixel_for_every_stride_pixels_of_the_image(backbone, strides, height, width):
    features = small(backbone, (height, width, 3)).output
    assert list(features) == strides
    for stride, x in features.items():
        assert tuple(x.shape[1:3]) == (ceil(height / stride), ceil(width / stride))


def test_the_network_has_biases_and_no_norm_in_any_style():
    for backbone in (vgg16, ssd_vgg16):
        kinds = {
            variable.path.split("/")[-1] for variable in small(backbone, (32, 32, 3)).variables
        }
        assert kinds - {"scale"} == {"kernel", "bias"}


# -- fc6


def fc6_of(size, channels):
    """Return a model of SSD's fc6 alone, before its ReLU, with equal input and output shapes."""
    layer = small(ssd_vgg16, (32, 32, 3), width=channels / 512).get_layer("fc6")
    alone = keras.layers.Conv2D.from_config({**layer.get_config(), "activation": None})
    image = keras.Input((size, size, channels))
    return keras.Model(image, alone(image)), alone


def test_fc6_is_a_13x13_convolution_most_of_whose_weights_are_zero():
    model, layer = fc6_of(15, 2)
    sparse = np.zeros((13, 13, *layer.kernel.shape[2:]), "float32")
    sparse[::6, ::6] = layer.kernel
    layer.bias.assign(normal(*layer.bias.shape))
    x = normal(1, 15, 15, 2)
    np.testing.assert_allclose(
        model(x), tf.nn.conv2d(x, sparse, 1, "SAME") + layer.bias, rtol=1e-4, atol=1e-5
    )


def test_fc6_sees_nine_pixels_six_apart():
    model, _ = fc6_of(19, 1)
    x = tf.Variable(tf.zeros([1, 19, 19, 1]))
    with tf.GradientTape() as tape:
        center = tf.reduce_sum(model(x)[0, 9, 9])
    pixels = {
        tuple(pixel) for pixel in np.argwhere(np.asarray(tape.gradient(center, x))[0, :, :, 0])
    }
    assert pixels == {(row, column) for row in (3, 9, 15) for column in (3, 9, 15)}


def test_pool5_takes_the_largest_of_nine_around_each_pixel():
    model = small(ssd_vgg16, (64, 64, 3))
    pool = model.get_layer("stage5_pool")
    before, after = (
        np.asarray(x)
        for x in keras.Model(model.input, [pool.input, pool.output])(normal(1, 64, 64, 3))
    )
    assert before.shape == after.shape == (1, 4, 4, 8)
    for row in range(4):
        for column in range(4):
            around = before[:, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            np.testing.assert_array_equal(after[:, row, column], around.max(axis=(1, 2)))


# -- L2 normalization


def test_each_pixel_is_divided_by_its_length_and_each_channel_scaled():
    layer = L2Normalization(20.0, name="length")
    x = normal(2, 3, 4, 5)
    unit = x / np.sqrt((x**2).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(layer(x), 20 * unit, rtol=1e-5)
    scale = np.arange(5, dtype="float32")
    layer.scale.assign(scale)
    np.testing.assert_allclose(layer(x), scale * unit, rtol=1e-5, atol=1e-6)
    assert [variable.path for variable in layer.trainable_variables] == ["length/scale"]


def test_a_pixel_without_features_stays_zero_and_has_a_finite_gradient():
    layer, x = L2Normalization(20.0, name="length"), tf.Variable(tf.zeros([1, 2, 2, 3]))
    with tf.GradientTape() as tape:
        y = layer(x)
        loss = tf.reduce_sum(y)
    assert not np.any(y)
    assert np.all(np.isfinite(tape.gradient(loss, x)))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_does_not_overflow_in_the_squares(policy):
    layer = L2Normalization(20.0, name="length")
    layer.dtype_policy = keras.DTypePolicy(policy)
    y = layer(1000 * np.ones((1, 1, 1, 512), "float32"))
    assert y.dtype.name == policy.removeprefix("mixed_")
    np.testing.assert_allclose(tf.cast(y, tf.float32), 20 / 512**0.5, rtol=1e-2)


def test_conv4_3_starts_out_with_pixels_of_length_20():
    features = small(ssd_vgg16, (32, 32, 3), width=1 / 8)(normal(1, 32, 32, 3))
    np.testing.assert_allclose(np.linalg.norm(features[8], axis=-1), 20, rtol=1e-4)
