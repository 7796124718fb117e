"""Guards the lectures' networks, against their papers: parameters, multiply-adds, shapes of layers,
memory, receptive fields.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import soaked
from cvpipe.errors import ConfigError
from cvpipe.models.abstract import without_weights
from cvpipe.models.activations import activation_layer
from cvpipe.models.blocks import Style, conv_norm
from cvpipe.models.build import backbone, classification_network
from cvpipe.models.catalog import NETWORKS
from cvpipe.models.cost import multiply_adds
from cvpipe.models.describe import describe, describe_model, published_model
from cvpipe.models.fractalnet import Join, PathChoice
from cvpipe.models.googlenet import bottlenecked, naive
from cvpipe.models.grouped_conv import GroupedConv2D
from cvpipe.models.inception_module import module
from cvpipe.models.layer_table import Row, layer_table
from cvpipe.models.lenet_sparse import C3
from cvpipe.models.local_response import LocalResponseNorm
from cvpipe.models.norms import Norm
from cvpipe.models.published import PUBLISHED
from cvpipe.models.random_layers import StochasticDepth
from cvpipe.models.segmenters import fcn
from cvpipe.models.shufflenet import shuffle

LONG = (
    "resnet1202",
    "resnet110",
    "resnet110_stochastic_depth",
    "preresnet110",
    "preresnet164",
    "resnet101",
    "resnet152",
    "preresnet101",
    "preresnet152",
    "resnext101_32x8d",
    "densenet169",
    "densenet201",
    "inception_resnet_v2",
    "nasnet_large",
    *(f"efficientnet_b{number}" for number in (1, 3, 4, 5, 6, 7)),
)
"""Deep networks, whose tests are marked soak. Smaller networks of the same families are faster."""
COUNTED = [*(name for name in PUBLISHED if name not in LONG), *soaked(*LONG)]


def agrees(ours: float, published: float) -> bool:
    """Return True within 1 %, or if `ours` rounds to the one or two published digits."""
    digits = len(f"{published:g}".replace(".", "").strip("0").split("e")[0])
    return abs(ours - published) <= 0.01 * published or (
        digits <= 2 and float(f"{ours:.{digits}g}") == published
    )


@pytest.mark.parametrize("name", COUNTED)
def test_a_network_has_the_published_parameters_and_multiply_adds(name: str) -> None:
    known, network = PUBLISHED[name], NETWORKS[name]
    with without_weights():
        model = classification_network(name, network.input_shape, network.classes)
    assert model.name == name
    assert {key: tuple(x.shape) for key, x in model.output.items()} == {
        "logits": (None, network.classes)
    }
    found = describe_model(model)
    parameters = found["parameters" if known.counted == "all" else "trainable_parameters"]
    rounded = bool({"P", "M"} & {known.source.split(", ")[0]})
    right = [
        known.parameters is None
        or (agrees(parameters, known.parameters) if rounded else parameters == known.parameters),
        known.gmacs is None or agrees(found["macs"] / 1e9, known.gmacs),
    ]
    # The table must list a deviation if and only if there is one.
    assert all(right) != bool(known.deviation), (parameters, found["macs"])


@pytest.mark.parametrize(
    "name, parameters", [("googlenet", 13_378_280), ("inception_v3", 27_161_264)]
)
@without_weights()
def test_auxiliary_classifiers_have_the_published_parameters(name: str, parameters: int) -> None:
    network = NETWORKS[name]
    model = classification_network(name, network.input_shape, network.classes, auxiliary=True)
    assert describe_model(model)["trainable_parameters"] == parameters
    assert {x.shape for x in model.output.values()} == {(None, 1000)}


def test_auxiliary_classifiers_of_a_network_without_them_are_an_error() -> None:
    with pytest.raises(ConfigError, match="auxiliary.*resnet8.*googlenet, inception_v3"):
        classification_network("resnet8", (8, 8, 3), 2, auxiliary=True)


LECTURES = {
    "LeNet-5": "lenet5 lenet5_sparse",
    "AlexNet": "alexnet alexnet_one_tower",
    "ZFNet": "zfnet",
    "OverFeat": "overfeat_fast overfeat_accurate",
    "VGG": "vgg11_fc vgg13_fc vgg16_fc vgg19_fc",
    "NiN": "nin_imagenet nin_cifar",
    "GoogLeNet and Inception": "googlenet inception_v2 inception_v3 inception_v4",
    "Inception-ResNet": "inception_resnet_v2",
    "ResNet": "resnet18 resnet34 resnet50 resnet101 resnet152",
    "ResNet of CIFAR": "resnet20 resnet32 resnet44 resnet56 resnet110 resnet1202",
    "plain": "plain18 plain34",
    "pre-activation": "preresnet50 preresnet101 preresnet152 preresnet110 preresnet164",
    "Wide ResNet": "wrn28_10 wide_resnet50_2",
    "ResNeXt": "resnext50_32x4d resnext101_32x8d",
    "stochastic depth": "resnet110_stochastic_depth",
    "SE": "se_resnet50 se_resnext50_32x4d",
    "DenseNet": "densenet121 densenet169 densenet201 densenet40_12 densenet_bc100_12",
    "FractalNet": "fractalnet20",
    "SqueezeNet": "squeezenet1_0 squeezenet1_1 squeezenet1_0_bypass",
    "NASNet-A": "nasnet_mobile nasnet_large",
    "MobileNet": "mobilenet_v1 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large",
    "ShuffleNet and Xception": "shufflenet_g3 xception",
    "EfficientNet": " ".join(f"efficientnet_b{number}" for number in range(8)),
    "EfficientNet-Lite": " ".join(f"efficientnet_lite{number}" for number in range(5)),
}


@pytest.mark.parametrize("family", LECTURES)
def test_the_lectures_networks_are_listed_beside_published_figures(family: str) -> None:
    assert set(LECTURES[family].split()) <= NETWORKS.keys() & PUBLISHED.keys()


def test_stochastic_depth_is_that_of_its_paper_unless_another_rate_is_given() -> None:
    for rate, last in ((0.0, 0.5), (0.2, 0.2)):
        with without_weights():
            model = classification_network(
                "resnet110_stochastic_depth", (8, 8, 3), 10, style=Style(stochastic_depth=rate)
            )
        rates = [layer.rate for layer in model.layers if isinstance(layer, StochasticDepth)]
        np.testing.assert_allclose(rates, last * np.arange(1, 55) / 54)


# -- shapes of the papers' tables

SHAPES: dict[str, dict[int, tuple[int, int]]] = {
    "lenet5_sparse": {1: (28, 6), 2: (10, 16), 4: (1, 84)},
    "alexnet": {4: (55, 96), 8: (27, 256), 16: (13, 256), 32: (6, 256)},
    "alexnet_one_tower": {4: (55, 64), 8: (27, 192), 16: (13, 256), 32: (6, 256)},
    "zfnet": {2: (110, 96), 4: (55, 96), 8: (26, 256), 16: (13, 256), 32: (6, 256)},
    "overfeat_fast": {4: (56, 96), 8: (24, 256), 16: (12, 1024), 32: (6, 1024)},
    "overfeat_accurate": {2: (108, 96), 6: (30, 256), 12: (15, 1024), 36: (5, 1024)},
    "nin_imagenet": {4: (54, 96), 8: (27, 256), 16: (13, 384), 32: (6, 1024)},
    "nin_cifar": {1: (32, 96), 2: (16, 192), 4: (8, 192)},
    "googlenet": {2: (112, 64), 4: (56, 192), 8: (28, 480), 16: (14, 832), 32: (7, 1024)},
    "inception_v2": {2: (112, 64), 4: (56, 192), 8: (28, 320), 16: (14, 608), 32: (7, 1024)},
    "inception_v3": {8: (35, 288), 16: (17, 768), 32: (8, 2048)},
    "inception_v4": {8: (35, 384), 16: (17, 1024), 32: (8, 1536)},
    "inception_resnet_v2": {8: (35, 320), 16: (17, 1088), 32: (8, 1536)},
    "wrn28_10": {1: (32, 160), 2: (16, 320), 4: (8, 640)},
    "resnext50_32x4d": {2: (112, 64), 4: (56, 256), 8: (28, 512), 16: (14, 1024), 32: (7, 2048)},
    "densenet121": {2: (112, 64), 4: (56, 256), 8: (28, 512), 16: (14, 1024), 32: (7, 1024)},
    "fractalnet20": {
        1: (32, 64),
        2: (16, 128),
        4: (8, 256),
        8: (4, 512),
        16: (2, 512),
        32: (1, 512),
    },
    "squeezenet1_0": {2: (109, 96), 4: (54, 256), 8: (27, 512), 16: (13, 512)},
    "nasnet_mobile": {2: (111, 32), 4: (56, 44), 8: (28, 264), 16: (14, 528), 32: (7, 1056)},
    "mobilenet_v1": {2: (112, 64), 4: (56, 128), 8: (28, 256), 16: (14, 512), 32: (7, 1024)},
    "mobilenet_v3_large": {2: (112, 16), 4: (56, 24), 8: (28, 40), 16: (14, 112), 32: (7, 960)},
    "shufflenet_g3": {2: (112, 24), 4: (56, 24), 8: (28, 240), 16: (14, 480), 32: (7, 960)},
    "xception": {2: (147, 64), 4: (74, 128), 8: (37, 256), 16: (19, 728), 32: (10, 2048)},
    "efficientnet_b0": {2: (112, 16), 4: (56, 24), 8: (28, 40), 16: (14, 112), 32: (7, 1280)},
}
"""The side and the channels of the last map of each stride."""


@pytest.mark.parametrize("name", SHAPES)
@without_weights()
def test_the_maps_have_the_published_sizes(name: str) -> None:
    features = backbone(name)(keras.Input(NETWORKS[name].input_shape), width=1, style=Style())
    assert {stride: (x.shape[2], x.shape[3]) for stride, x in features.items()} == SHAPES[name]


# -- the lectures' facts


def rows_of(name: str) -> dict[str, Row]:
    return {row.name: row for row in layer_table(published_model(name))}


def test_alexnets_first_layer_is_the_lectures() -> None:
    rows = rows_of("alexnet")
    assert rows["stage1_conv"].shape == (55, 55, 96)
    assert rows["stage1_conv"].parameters == 34_944
    assert rows["stage1_pool"].shape == (27, 27, 96)
    assert rows["stage5_pool"].shape == (6, 6, 256)


def test_vgg16_has_the_rows_of_the_lectures_slide() -> None:
    described, rows = describe("vgg16_fc"), rows_of("vgg16_fc")
    assert described["parameters"] == 138_357_544
    thousands = {name: round(row.activations / 1000) for name, row in rows.items()}
    # In thousands; the slide has 150K, 3.2M, 3.2M, 800K, 1.6M, 1.6M, 400K, …
    assert list(thousands.values()) == [
        *(151, 3211, 3211, 803, 1606, 1606, 401, 803, 803, 803, 201),
        *(401, 401, 401, 100, 100, 100, 100, 25, 4, 4, 4, 1),
    ]
    # These add up to 15 million; the slide says 24 million and 96 MB.
    activations = described["activations"] - rows["pool"].activations
    assert activations == 15_237_608
    assert described["activation_bytes"] == 4 * described["activations"]
    megabytes = {name: row.parameters for name, row in rows.items() if row.parameters}
    assert megabytes["stage1_conv1"] == 3 * 3 * 3 * 64 + 64
    assert megabytes["fc6"] == 7 * 7 * 512 * 4096 + 4096


@without_weights()
def test_the_inception_module_has_the_lectures_multiply_adds() -> None:
    image = keras.Input((28, 28, 256))
    style = Style(Norm("none"))
    plain = keras.Model(
        image, module(image, naive(128, 192, 96), width=1, style=style, name="naive")
    )
    assert plain.output.shape == (None, 28, 28, 672)
    assert multiply_adds(plain) == 854_196_224
    branches = bottlenecked(128, 64, 192, 64, 96, 64)
    narrow = keras.Model(image, module(image, branches, width=1, style=style, name="bottlenecked"))
    assert narrow.output.shape == (None, 28, 28, 480)
    assert multiply_adds(narrow) == 271_351_808
    # The lecture's 358 million multiply-adds count the 3×3 convolution twice.
    [three] = [layer for layer in narrow.layers if layer.name == "bottlenecked_branch2_conv2"]
    again = multiply_adds(keras.Model(three.input, three.output))
    assert round((multiply_adds(narrow) + again) / 1e6) == 358


@pytest.mark.parametrize("count, side", [(1, 3), (2, 5), (3, 7)])
@without_weights()
def test_stacked_3x3_convolutions_see_as_much_as_a_larger_kernel(count: int, side: int) -> None:
    image = x = keras.Input((16, 16, 8))
    for index in range(count):
        x = conv_norm(x, 8, 3, 1, style=Style(), activation="relu", name=f"conv{index}")
    assert layer_table(keras.Model(image, x))[-1].receptive_field == (side, side)


@pytest.mark.parametrize(
    "layers, field",
    [
        ([keras.layers.Conv2D(2, (1, 7), padding="same")], (1, 7)),
        ([keras.layers.Conv2D(2, 3, 2), keras.layers.DepthwiseConv2D(3)], (7, 7)),
        ([keras.layers.Conv2D(2, 3, dilation_rate=6)], (13, 13)),
        ([keras.layers.MaxPooling2D(2), keras.layers.Conv2D(2, 3)], (6, 6)),
        ([keras.layers.AveragePooling2D(2), keras.layers.Conv2DTranspose(2, 4, 2)], (4, 4)),
    ],
    ids=["row", "strided", "dilated", "pooled", "transposed"],
)
def test_receptive_fields_follow_kernels_strides_and_dilations(
    layers: list[Any], field: tuple[int, int]
) -> None:
    x = image = keras.Input((32, 32, 3))
    for layer in layers:
        x = layer(x)
    assert layer_table(keras.Model(image, x))[-1].receptive_field == field


def test_the_receptive_field_of_a_sum_is_that_of_its_widest_branch_and_ignores_gates() -> None:
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(3, 5, padding="same")(image)
    total = keras.layers.Add()([image, x])
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(total)
    gated = keras.layers.Multiply()([total, gate])
    rows = layer_table(keras.Model(image, gated))
    assert [row.receptive_field for row in rows] == [(1, 1), (5, 5), (5, 5), None, (5, 5)]


@pytest.mark.parametrize("name", ["resnet8", "squeezenet1_1", "densenet40_12", "fractalnet20"])
def test_the_rows_of_a_table_add_up_to_the_network(name: str) -> None:
    rows, described = list(rows_of(name).values()), describe(name)
    assert sum(row.parameters for row in rows) == described["parameters"]
    assert sum(row.macs for row in rows) == described["macs"]
    assert sum(row.activations for row in rows) == described["activations"]


# -- backbones of other tasks


@pytest.mark.parametrize("name", ["alexnet", "inception_v3", "nin_imagenet"])
@without_weights()
def test_a_family_without_padding_as_backbone_of_an_fcn_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError):
        fcn(backbone(name), (128, 128, 3), 5, stride=8, width=0.25)


def test_images_too_small_for_layers_without_padding_are_an_error() -> None:
    with pytest.raises(ConfigError, match="32×32 pixels are too small.*prepare.size"):
        classification_network("inception_v3", (32, 32, 3), 5, width=0.1)


# -- activations


@pytest.mark.parametrize(
    "kind, parts",
    [
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("tanh", np.tanh),
        ("relu", lambda x: np.maximum(x, 0)),
        ("relu6", lambda x: np.clip(x, 0, 6)),
        ("leaky", lambda x: np.where(x > 0, x, x / 100)),
        ("prelu", lambda x: np.where(x > 0, x, x / 4)),
        ("elu", lambda x: np.where(x > 0, x, np.exp(x) - 1)),
        ("selu", lambda x: 1.0507 * np.where(x > 0, x, 1.67326 * (np.exp(x) - 1))),
        ("silu", lambda x: x / (1 + np.exp(-x))),
        ("hard_silu", lambda x: x * np.clip(x + 3, 0, 6) / 6),
    ],
)
def test_an_activation_is_its_formula(kind: str, parts: Any) -> None:
    x = np.linspace(-8, 8, 33, dtype="float32").reshape(1, 3, 11, 1)
    np.testing.assert_allclose(activation_layer(kind, "a")(x), parts(x), rtol=1e-4, atol=1e-4)


def test_an_activation_takes_the_place_of_every_rectifier() -> None:
    style = Style(activation="elu")
    model = classification_network("resnet8", (8, 8, 3), 2, width=0.25, style=style)
    kinds = [x.activation.__name__ for x in model.layers if isinstance(x, keras.layers.Activation)]
    assert kinds == ["elu"] * 7


def test_maxout_takes_the_larger_of_two_linear_functions() -> None:
    image = keras.Input((4, 4, 3))
    style = Style(Norm("none"), activation="maxout")
    x = conv_norm(image, 5, 3, 1, style=style, activation="relu", name="conv")
    model = keras.Model(image, [x, model_input_of(x)])
    pixels = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    found, linear = (np.asarray(value) for value in model(pixels))
    assert linear.shape[-1] == 10
    np.testing.assert_array_equal(found, np.maximum(linear[..., :5], linear[..., 5:]))


def model_input_of(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return the inputs of the layer that made `x`."""
    return x._keras_history.operation.input


def test_maxout_is_refused_after_an_addition() -> None:
    with pytest.raises(ConfigError, match="maxout.*stage1_block1"):
        classification_network("resnet8", (8, 8, 3), 2, style=Style(activation="maxout"))


# -- layers


def test_local_response_norm_is_its_formula() -> None:
    x = 50 * np.random.default_rng(0).normal(size=(2, 3, 4, 7)).astype("float32")
    expected = np.empty_like(x)
    for channel in range(7):
        near = x[..., max(0, channel - 2) : channel + 3]
        total = 2 + 1e-4 * np.square(near).sum(axis=-1)
        expected[..., channel] = x[..., channel] / total**0.75
    np.testing.assert_allclose(LocalResponseNorm()(x), expected, rtol=1e-5)


@pytest.mark.parametrize("stride, padding", [(1, "same"), (2, "valid")])
def test_a_grouped_convolution_and_its_gradient_equal_kerass(stride: int, padding: str) -> None:
    ours = GroupedConv2D(6, 3, stride, padding=padding, groups=3)
    theirs = keras.layers.Conv2D(6, 3, stride, padding=padding, groups=3)
    x = tf.random.stateless_normal((2, 7, 7, 9), (0, 1))
    ours.build(x.shape), theirs.build(x.shape)
    theirs.set_weights([ours.kernel.numpy(), np.arange(6.0)])
    ours.bias.assign(np.arange(6.0))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        pair = [tf.reduce_sum(tf.sin(layer(x))) for layer in (ours, theirs)]
    np.testing.assert_allclose(*pair, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(pair[0], x), tape.gradient(pair[1], x), atol=1e-5)
    compiled = tf.function(ours, jit_compile=True)(x)
    np.testing.assert_allclose(compiled, ours(x), rtol=1e-4, atol=1e-5)


def test_drop_path_averages_some_columns_in_training_and_all_in_evaluation() -> None:
    count, columns = 400, 3
    choose, join = PathChoice(columns, name="choice"), Join(name="join")
    image = tf.zeros((count, 2, 2, 1))
    maps = [tf.fill((count, 2, 2, 1), float(3**index)) for index in range(columns)]
    np.testing.assert_allclose(join([choose(image), *maps]), np.full((count, 2, 2, 1), 13 / 3))
    choice = choose(image, training=True)
    values = np.asarray(join([choice, *maps], training=True))[:, 0, 0, 0]
    alone = np.asarray(choice).sum(axis=1) == 1
    assert 0.4 < alone.mean() < 0.6
    np.testing.assert_allclose(values[alone], np.asarray(choice)[alone] @ [1.0, 3.0, 9.0])
    means = {1, 3, 9, 2, 5, 6, 13 / 3}
    assert {round(float(v), 4) for v in values} <= {round(mean, 4) for mean in means}
    # All three inputs are kept with a probability of 0.85³.
    assert 0.5 < np.isclose(values[~alone], 13 / 3).mean() < 0.73


def test_a_shuffle_distributes_channels_over_all_groups() -> None:
    x = np.arange(6, dtype="float32").reshape(1, 1, 1, 6)
    image = keras.Input((1, 1, 6))
    dealt = keras.Model(image, shuffle(image, 3, "unit"))(x)
    assert np.ravel(dealt).tolist() == [0, 2, 4, 1, 3, 5]


def test_ten_maps_of_c3_read_each_map_of_s2() -> None:
    assert [sum(number in seen for seen in C3) for number in range(6)] == [10] * 6
    assert sum(map(len, C3)) == 60 and len(set(C3)) == 16


def test_fully_connected_layers_slide_over_larger_images() -> None:
    keras.utils.set_random_seed(0)
    small = classification_network("vgg11_fc", (224, 224, 3), 3, width=1 / 64)
    large = classification_network("vgg11_fc", (256, 224, 3), 3, width=1 / 64)
    assert large.get_layer("fc7").output.shape == (None, 2, 1, 64)
    large.set_weights(small.get_weights())
    assert large(tf.zeros((1, 256, 224, 3)))["logits"].shape == (1, 3)
