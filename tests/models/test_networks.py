"""Guards classification networks: shapes, gradients, initial scores, names of variables."""

import hashlib
import json
from math import ceil, log

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import soaked
from cvpipe.errors import ConfigError
from cvpipe.models.abstract import without_weights
from cvpipe.models.backbones import BACKBONES
from cvpipe.models.blocks import Style, conv_norm, depthwise_norm
from cvpipe.models.build import backbone, classification_network
from cvpipe.models.catalog import NETWORKS
from cvpipe.models.mobilenet import divisible_channels
from cvpipe.models.norms import Norm
from cvpipe.models.published import PUBLISHED
from cvpipe.models.random_layers import StochasticDepth
from cvpipe.models.resnet import pad_shortcut

SMALL = {
    "lenet5": (32, 32, 1),
    "resnet20": (16, 16, 3),
    "mobilenet_v2": (64, 64, 3),
    "resnet18": (64, 64, 3),
}
"""Small input shapes, at which networks run quickly."""


def build(name, classes=10, **settings):
    return classification_network(name, SMALL[name], classes, **settings)


def images(name, count):
    return tf.random.stateless_normal((count, *SMALL[name]), (0, 0))


def features_of(name, shape, width=1.0):
    return backbone(name)(keras.Input(shape), width=width, style=Style())


@pytest.fixture(autouse=True)
def same_weights_every_time():
    keras.utils.set_random_seed(0)


# -- the catalog


def test_every_network_of_the_catalog_has_a_backbone_and_every_backbone_an_entry():
    assert BACKBONES.keys() == NETWORKS.keys()


# test_canon.py builds the networks with published figures.
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in PUBLISHED])
@without_weights()
def test_every_network_of_the_catalog_builds_as_published(name):
    network = NETWORKS[name]
    model = classification_network(name, network.input_shape, network.classes)
    assert model.name == name
    assert model.input_shape == (None, *network.input_shape)
    assert {key: tuple(x.shape) for key, x in model.output.items()} == {
        "logits": (None, network.classes)
    }


FEW = ("linear", "two_layer", "lenet5", "fmp6_sqrt2", "vgg16", "darknet19", "resnet8")


# resnet1202 has the blocks of resnet8.
@pytest.mark.parametrize(
    "name", [*FEW, *soaked(*(name for name in NETWORKS if name not in (*FEW, "resnet1202")))]
)
@without_weights()
def test_the_catalog_says_which_settings_change_a_network(name):
    shape = NETWORKS[name].input_shape

    def layers(**style):
        return classification_network(name, shape, 2, style=Style(**style)).layers

    def settings(**style):
        return json.dumps([layer.get_config() for layer in layers(**style)], default=str)

    dropped = [
        layer for layer in layers(stochastic_depth=0.3) if isinstance(layer, StochasticDepth)
    ]
    assert bool(dropped) == NETWORKS[name].residual
    assert (settings() != settings(activation="elu")) == NETWORKS[name].activated


# -- feature maps


@without_weights()
def test_lenet5_maps_have_the_published_sizes():
    shapes = {
        stride: tuple(x.shape[1:]) for stride, x in features_of("lenet5", (32, 32, 1)).items()
    }
    assert shapes == {1: (28, 28, 6), 2: (10, 10, 16), 4: (1, 1, 120)}


@pytest.mark.parametrize("height, width", [(33, 47), (28, 32), (97, 64), (224, 225)])
@pytest.mark.parametrize(
    "name, strides",
    [
        ("resnet8", [1, 2, 4]),
        ("resnet20", [1, 2, 4]),
        ("resnet18", [2, 4, 8, 16, 32]),
        ("resnet50", [2, 4, 8, 16, 32]),
        ("mobilenet_v2", [2, 4, 8, 16, 32]),
    ],
)
@without_weights()
def test_a_feature_map_has_a_pixel_for_every_stride_pixels_of_the_image(
    name, strides, height, width
):
    features = features_of(name, (height, width, 3))
    assert list(features) == strides
    for stride, x in features.items():
        assert tuple(x.shape[1:3]) == (ceil(height / stride), ceil(width / stride))


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_a_strided_convolution_is_centered_on_every_second_pixel(kernel, size):
    image = keras.Input((size, size, 1))
    settings = {"style": Style(Norm(epsilon=0.0)), "activation": None}
    pixels = np.random.default_rng(0).normal(size=(1, size, size, 1)).astype("float32")
    for output in (
        conv_norm(image, 1, kernel, 2, name="convolution", **settings),
        depthwise_norm(image, kernel, 2, name="depthwise", **settings),
    ):
        model = keras.Model(image, output)
        center = np.zeros((kernel, kernel, 1, 1))
        center[kernel // 2, kernel // 2] = 1
        model.trainable_variables[0].assign(center)
        np.testing.assert_allclose(model(pixels), pixels[:, ::2, ::2], rtol=1e-5)


@pytest.mark.parametrize("channels", [4, 24])
def test_a_strided_kernel_of_one_pixel_has_the_gradient_of_tensorflows_convolution(channels):
    image = keras.Input((7, 8, channels))
    settings = {"style": Style(Norm("none")), "activation": None}
    model = keras.Model(image, conv_norm(image, 16, 1, 2, name="convolution", **settings))
    kernel, bias = (variable.value for variable in model.trainable_variables)
    pixels = tf.random.stateless_normal((2, 7, 8, channels), (1, 2))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(pixels)
        ours = tf.reduce_sum(tf.sin(model(pixels)))
        theirs = tf.reduce_sum(tf.sin(tf.nn.conv2d(pixels[:, ::2, ::2], kernel, 1, "VALID") + bias))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    for variable in (kernel, pixels):
        np.testing.assert_allclose(
            tape.gradient(ours, variable), tape.gradient(theirs, variable), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "darknet53", "mobilenet_v2"])
@without_weights()
def test_no_strided_kernel_of_one_pixel_reads_few_channels(name):
    # oneDNN's gradient of such layers writes past its buffer, which gives wrong weights or a crash.
    model = classification_network(name, (64, 64, 3), 2, width=0.1)
    assert [
        layer.name
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
        and layer.kernel_size == (1, 1)
        and layer.strides != (1, 1)
        and layer.input.shape[-1] < 16
    ] == []


@pytest.mark.parametrize("size", [16, 17])
def test_the_stem_pools_around_every_second_pixel(size):
    model = classification_network("resnet18", (size, size, 3), 2, width=0.1)
    inner = keras.Model(
        model.input, [model.get_layer("stem_relu").output, model.get_layer("stem_pool").output]
    )
    stem, pooled = (
        np.asarray(x) for x in inner(np.random.default_rng(0).normal(size=(2, size, size, 3)))
    )
    assert pooled.shape[1:3] == (ceil(stem.shape[1] / 2), ceil(stem.shape[2] / 2))
    for row in range(pooled.shape[1]):
        for column in range(pooled.shape[2]):
            around = stem[
                :, max(0, 2 * row - 1) : 2 * row + 2, max(0, 2 * column - 1) : 2 * column + 2
            ]
            np.testing.assert_array_equal(pooled[:, row, column], around.max(axis=(1, 2)))


@pytest.mark.parametrize("height, width", [(8, 8), (7, 5)])
def test_the_option_a_shortcut_subsamples_and_adds_zero_channels(height, width):
    x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype("float32")
    expected = np.zeros((2, ceil(height / 2), ceil(width / 2), 5), "float32")
    for row in range(expected.shape[1]):
        for column in range(expected.shape[2]):
            expected[:, row, column, :3] = x[:, 2 * row, 2 * column]
    np.testing.assert_array_equal(
        pad_shortcut(tf.constant(x), 5, 2, style=Style(), name=""), expected
    )


def test_mobilenet_v2_computes_what_keras_applications_does():
    # A size at which each strided convolution has an odd input. Keras pads even inputs on one
    # side only.
    theirs = keras.applications.MobileNetV2(
        (33, 33, 3), alpha=0.35, weights=None, classes=7, classifier_activation=None
    )
    ours = classification_network(
        "mobilenet_v2", (33, 33, 3), 7, width=0.35, style=Style(Norm(epsilon=1e-3))
    )
    draw = np.random.default_rng(0)
    for variable in theirs.weights:
        # Perturb the initial values, so that no batch normalization is the identity.
        variable.assign(
            variable * draw.uniform(0.5, 1.5, variable.shape) + draw.normal(0, 0.01, variable.shape)
        )
    assert [tuple(v.shape) for v in ours.weights] == [tuple(v.shape) for v in theirs.weights]
    ours.set_weights(theirs.get_weights())
    x = draw.normal(size=(2, 33, 33, 3)).astype("float32")
    expected = theirs(x)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(ours(x)["logits"], expected, rtol=1e-3, atol=1e-5)


# -- width


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "resnet18", "resnet50"])
@without_weights()
def test_half_the_width_has_half_the_channels(name):
    shape = NETWORKS[name].input_shape
    whole, half = features_of(name, shape), features_of(name, shape, width=0.5)
    assert [2 * x.shape[-1] for x in half.values()] == [x.shape[-1] for x in whole.values()]


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "resnet18"])
@without_weights()
def test_every_width_keeps_at_least_one_channel(name):
    assert {
        x.shape[-1] for x in features_of(name, NETWORKS[name].input_shape, width=0.001).values()
    } == {1}


@pytest.mark.parametrize("width, last", [(0.5, 1280), (1.4, 1792)])
@without_weights()
def test_mobilenet_v2_keeps_its_last_layer_unless_it_is_wider(width, last):
    features = features_of("mobilenet_v2", (64, 64, 3), width=width)
    channels = [divisible_channels(width * channels) for channels in (16, 24, 32, 96)] + [last]
    assert [x.shape[-1] for x in features.values()] == channels


@pytest.mark.parametrize(
    "channels, divisible",
    [(1, 8), (11.2, 16), (12, 16), (19, 24), (32, 32), (33.6, 32), (134.4, 136)],
)
def test_channels_become_multiples_of_8_without_losing_a_tenth(channels, divisible):
    assert divisible_channels(channels) == divisible


# -- behavior


@pytest.mark.parametrize("name", SMALL)
def test_an_image_has_the_same_logits_alone_and_in_a_batch(name):
    model, batch = build(name), images(name, 3)
    together = model(batch)["logits"]
    alone = tf.concat([model(batch[i : i + 1])["logits"] for i in range(3)], axis=0)
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-5 * np.abs(together).max())
    assert np.ptp(together, axis=0).max() > 0


def test_convolutions_start_out_he_normal():
    image = keras.Input((8, 8, 256))
    settings = {"style": Style(), "activation": None}
    for inputs, output in (
        (9 * 256, conv_norm(image, 64, 3, 1, name="convolution", **settings)),
        (9, depthwise_norm(image, 3, 1, name="depthwise", **settings)),
    ):
        kernel = keras.Model(image, output).trainable_variables[0]
        assert np.std(kernel) == pytest.approx((2 / inputs) ** 0.5, rel=0.05)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("name", SMALL)
def test_every_class_is_about_equally_likely_at_first(name, classes):
    labels = np.arange(16) % classes
    logits = build(name, classes)(images(name, 16), training=True)["logits"]
    loss = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    assert np.mean(loss) == pytest.approx(log(classes), abs=0.15)


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "mobilenet_v2"])
def test_a_gradient_reaches_every_trainable_variable(name):
    model = build(name)
    with tf.GradientTape() as tape:
        logits = model(images(name, 8), training=True)["logits"]
        loss = keras.ops.mean(
            keras.losses.sparse_categorical_crossentropy(np.arange(8), logits, from_logits=True)
        )
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    assert [
        v.path
        for v, gradient in zip(variables, gradients)
        if gradient is None or not np.any(gradient)
    ] == []


@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2"])
def test_xla_computes_the_same_logits(name):
    model, batch = build(name, width=0.5), images(name, 2)
    plain = model(batch)["logits"]
    compiled = tf.function(model, jit_compile=True)(batch)["logits"]
    np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=1e-4 * np.abs(plain).max())


@pytest.mark.parametrize("name", SMALL)
def test_logits_are_float32_under_mixed_bfloat16(name, mixed_bfloat16):
    model = build(name, width=0.25, dropout=0.5)
    convolution = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    assert (convolution.compute_dtype, convolution.kernel.dtype) == ("bfloat16", "float32")
    assert model(images(name, 2), training=True)["logits"].dtype == tf.float32


@without_weights()
def test_the_norm_reaches_every_batch_normalization():
    model = build("mobilenet_v2", style=Style(Norm(momentum=0.7, epsilon=0.01, synchronized=True)))
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 52
    assert {(norm.momentum, norm.epsilon, norm.synchronized) for norm in norms} == {
        (0.7, 0.01, True)
    }


# -- names


@pytest.mark.parametrize("name", SMALL)
@without_weights()
def test_building_twice_gives_the_same_variable_paths(name):
    first, second = [
        [variable.path for variable in build(name, dropout=0.5).variables] for _ in range(2)
    ]
    assert first == second
    assert len(set(first)) == len(first)
    assert "dropout/seed_generator_state" in first


@pytest.mark.parametrize(
    "name, digest",
    [
        ("lenet5", "6c639766efc214df"),
        ("resnet20", "7ca6cfafae8b7601"),
        ("resnet18", "f48965afe5afa899"),
        ("resnet50", "f7c7a2b12c794e45"),
        ("mobilenet_v2", "7129134a557a9d77"),
    ],
)
@without_weights()
def test_checkpoints_of_the_first_release_name_the_same_variables(name, digest):
    model = classification_network(name, (32, 32, 3), 2, width=0.1, dropout=0.3)
    paths = "\n".join(variable.path for variable in model.variables)
    assert hashlib.sha256(paths.encode()).hexdigest()[:16] == digest, paths


@without_weights()
def test_variable_paths_say_where_a_variable_is():
    paths = {variable.path for variable in build("resnet18").variables}
    assert {
        "stem/kernel",
        "stage2_block1_conv1/kernel",
        "stage2_block1_conv1_norm/gamma",
        "logits/bias",
    } <= paths


# -- errors


@pytest.mark.parametrize("size", [(28, 28), (31, 64)])
def test_lenet5_says_that_an_image_is_too_small(size):
    with pytest.raises(ConfigError, match=f"lenet5.*32×32.*{size[0]}×{size[1]}.*prepare.size"):
        classification_network("lenet5", (*size, 1), 10)


def test_an_unknown_network_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ConfigError, match="'resnet19'.*resnet18"):
        classification_network("resnet19", (32, 32, 3), 10)
