"""Guards segmentation networks: published parameters, shapes, gradients, learning."""

from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import soaked
from cvpipe.config.model import Model
from cvpipe.config.segmentation import SegmentationModel
from cvpipe.errors import ConfigError
from cvpipe.models.abstract import without_weights
from cvpipe.models.blocks import Style
from cvpipe.models.build import backbone, classification_network
from cvpipe.models.freeze import freeze
from cvpipe.models.initializers import Initializer
from cvpipe.models.norms import Norm
from cvpipe.models.segmenters import deconvnet, fcn, segnet, unet

SIZE = (97, 65, 3)
CLASSES = 5
CONSTANT = Style(initializer=Initializer("constant"))
"""Constant kernels, so that large networks are built quickly."""
BIASES = CONSTANT._replace(norm=Norm("none"))

SMALL = {
    "fcn32": lambda **settings: fcn(
        backbone("resnet18"), SIZE, CLASSES, **{"stride": 32, "width": 0.1, **settings}
    ),
    "fcn16": lambda **settings: fcn(
        backbone("mobilenet_v2"), SIZE, CLASSES, **{"stride": 16, "width": 0.1, **settings}
    ),
    "fcn8": lambda **settings: fcn(
        backbone("resnet18"), SIZE, CLASSES, **{"width": 0.1, **settings}
    ),
    "fcn4": lambda **settings: fcn(
        backbone("resnet18"), SIZE, CLASSES, **{"stride": 4, "width": 0.1, **settings}
    ),
    "fcn8 on resnet20": lambda **settings: fcn(
        backbone("resnet20"), SIZE, CLASSES, **{"width": 0.25, **settings}
    ),
    "fcn8 on fcn_vgg16": lambda **settings: fcn(
        backbone("fcn_vgg16"), SIZE, CLASSES, **{"width": 1 / 32, **settings}
    ),
    "fcn8 on darknet19": lambda **settings: fcn(
        backbone("darknet19"), SIZE, CLASSES, **{"width": 1 / 32, **settings}
    ),
    "unet": lambda **settings: unet(
        backbone("unet"), SIZE, CLASSES, **{"width": 1 / 16, **settings}
    ),
    "unet on resnet18": lambda **settings: unet(
        backbone("resnet18"), SIZE, CLASSES, **{"width": 0.1, **settings}
    ),
    "unet on mobilenet_v2": lambda **settings: unet(
        backbone("mobilenet_v2"), SIZE, CLASSES, **{"width": 0.1, **settings}
    ),
    "unet on ssd_vgg16": lambda **settings: unet(
        backbone("ssd_vgg16"), SIZE, CLASSES, **{"width": 1 / 32, **settings}
    ),
    "segnet": lambda **settings: segnet(SIZE, CLASSES, **{"width": 1 / 16, **settings}),
    "segnet with nearest": lambda **settings: segnet(
        SIZE, CLASSES, **{"unpooling": "nearest", "width": 1 / 16, **settings}
    ),
    "deconvnet": lambda **settings: deconvnet(SIZE, CLASSES, **{"width": 1 / 16, **settings}),
    "deconvnet with nails": lambda **settings: deconvnet(
        SIZE, CLASSES, **{"unpooling": "bed_of_nails", "width": 1 / 16, **settings}
    ),
}
"""Small networks for images whose sides no stride divides."""
APPLIED = ["keras/MobileNetV2", "keras/ResNet50", "keras/DenseNet121"]
HEADS = ["fcn8", "unet on resnet18", "segnet", "deconvnet"]
EACH = [*HEADS, *soaked(*(name for name in SMALL if name not in HEADS))]


@cache
def small(name):
    """Return a network of `SMALL`, shared by all tests that don't change its weights."""
    # The seed makes the weights independent of the order of tests.
    keras.utils.set_random_seed(0)
    return SMALL[name]()


@pytest.fixture(autouse=True)
def same_weights_every_time():
    keras.utils.set_random_seed(0)


def parameters(model, wanted=lambda layer: True):
    return sum(layer.count_params() for layer in model.layers if wanted(layer))


def trainable_parameters(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def images(model, count):
    return tf.random.stateless_normal((count, *model.input_shape[1:]), (0, 0))


def is_transposed(layer):
    return isinstance(layer, keras.layers.Conv2DTranspose)


def convolution(kernel, channels, filters):
    return kernel**2 * channels * filters + filters


# -- as published


@pytest.mark.parametrize(
    "stride, convolutions, everything",
    [(32, 134_346_581, 136_152_917), (16, 134_357_354, 134_815_994), (8, 134_362_751, 134_489_759)],
)
@without_weights()
def test_fcn_on_vgg16_has_the_published_parameters(stride, convolutions, everything):
    model = fcn(backbone("fcn_vgg16"), (224, 224, 3), 21, stride=stride, style=CONSTANT)
    assert parameters(model, lambda layer: not is_transposed(layer)) == convolutions
    assert parameters(model) == trainable_parameters(model) == everything
    kernels = [layer.kernel.shape[0] for layer in model.layers if is_transposed(layer)]
    assert kernels == {32: [64], 16: [4, 32], 8: [4, 4, 16]}[stride]
    assert (
        trainable_parameters(
            fcn(
                backbone("fcn_vgg16"), (64, 64, 3), 21, stride=stride, learned=False, style=CONSTANT
            )
        )
        == convolutions
    )


@without_weights()
def test_fcn_looks_at_pool3_pool4_and_fc7():
    model = fcn(backbone("fcn_vgg16"), SIZE, CLASSES, width=1 / 64)
    sources = {
        stride: model.get_layer(f"head{stride}_logits").input._keras_history.operation.name
        for stride in (8, 16, 32)
    }
    assert sources == {8: "stage3_pool", 16: "stage4_pool", 32: "fc7_relu"}


@pytest.mark.parametrize("channels, classes", [(1, 2), (3, 21)])
@without_weights()
def test_unet_has_the_parameters_of_figure_1(channels, classes):
    expected, before = 0, channels
    for filters in (64, 128, 256, 512, 1024):
        expected += convolution(3, before, filters) + convolution(3, filters, filters)
        before = filters
    for filters in (512, 256, 128, 64):
        expected += (
            convolution(2, 2 * filters, filters)
            + convolution(3, 2 * filters, filters)
            + convolution(3, filters, filters)
        )
    expected += convolution(1, 64, classes)
    model = unet(backbone("unet"), (64, 64, channels), classes, style=BIASES)
    assert parameters(model) == trainable_parameters(model) == expected
    assert expected == {2: 31_030_658, 21: 31_033_045}[classes]
    assert (
        len(
            [
                layer
                for layer in model.layers
                if isinstance(layer, keras.layers.Conv2D | keras.layers.Conv2DTranspose)
            ]
        )
        == 23
    )


VGG16 = [(64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)]
MIRRORED = [(512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 64), (64,)]


def chain(channels, filters):
    return sum(convolution(3, *pair) for pair in zip([channels, *filters], filters))


@without_weights()
def test_segnet_has_26_convolutions():
    encoder, decoder = (
        [x for stage in VGG16 for x in stage],
        [x for stage in MIRRORED for x in stage],
    )
    expected = chain(3, encoder) + chain(512, [*decoder, 11])
    model = segnet((64, 64, 3), 11, style=BIASES)
    assert parameters(model) == expected
    assert len([layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]) == 26


@without_weights()
def test_deconvnet_has_the_parameters_of_table_2():
    encoder, decoder = (
        [x for stage in VGG16 for x in stage],
        [x for stage in MIRRORED for x in stage] + [64],
    )
    between = convolution(7, 512, 4096) + convolution(1, 4096, 4096) + convolution(7, 4096, 512)
    expected = chain(3, encoder) + between + chain(512, decoder) + convolution(1, 64, 21)
    model = deconvnet((64, 64, 3), 21, style=BIASES)
    assert parameters(model) == expected


@pytest.mark.parametrize("network", [segnet, deconvnet])
@without_weights()
def test_every_convolution_but_the_classifier_has_a_norm(network):
    model = network((64, 64, 3), 3, width=1 / 32)
    convolutions = {layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}
    norms = {
        layer.name.removesuffix("_norm") for layer in model.layers if layer.name.endswith("_norm")
    }
    assert convolutions - norms == {"logits"}
    assert norms < convolutions


@pytest.mark.parametrize("name", ["unet", "unet on resnet18", "unet on mobilenet_v2"])
@without_weights()
def test_unet_joins_every_map_of_the_backbone(name):
    model = SMALL[name]()
    joins = [layer for layer in model.layers if isinstance(layer, keras.layers.Concatenate)]
    strides = {"unet": [8, 4, 2, 1]}.get(name, [16, 8, 4, 2])
    assert [layer.name for layer in joins] == [f"decoder{stride}_concatenate" for stride in strides]
    for layer, stride in zip(joins, strides):
        skip, up = layer.input
        assert skip.shape == up.shape == (None, -(-97 // stride), -(-65 // stride), skip.shape[-1])


# -- shapes


@pytest.mark.parametrize("name", SMALL)
@without_weights()
def test_every_pixel_of_the_image_gets_logits(name):
    assert {key: tuple(x.shape) for key, x in SMALL[name]().output.items()} == {
        "logits": (None, 97, 65, CLASSES)
    }


@pytest.mark.parametrize("name", HEADS)
def test_every_fourth_pixel_gets_logits(name):
    model = SMALL[name](output_stride=4)
    assert tuple(model.output["logits"].shape) == (None, 25, 17, CLASSES)
    assert tuple(model(images(model, 1))["logits"].shape) == (1, 25, 17, CLASSES)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 40, 1)])
@pytest.mark.parametrize("name", HEADS)
def test_any_size_of_image_is_answered(name, shape):
    model = {
        "fcn8": lambda: fcn(backbone("resnet18"), shape, 2, width=0.05),
        "unet on resnet18": lambda: unet(backbone("resnet18"), shape, 2, width=0.05),
        "segnet": lambda: segnet(shape, 2, width=1 / 64),
        "deconvnet": lambda: deconvnet(shape, 2, width=1 / 64),
    }[name]()
    assert tuple(model(images(model, 1))["logits"].shape) == (1, *shape[:2], 2)


# -- behavior


@pytest.mark.parametrize("name", [APPLIED[0], *soaked(*APPLIED[1:])])
@without_weights()
def test_heads_fit_keras_applications(name):
    for head in (fcn, unet):
        assert head(backbone(name), (64, 64, 3), CLASSES).output["logits"].shape == (
            None,
            64,
            64,
            CLASSES,
        )


@pytest.mark.parametrize("name", HEADS)
def test_logits_are_float32_under_mixed_bfloat16(name, mixed_bfloat16):
    model = SMALL[name](dropout=0.5)
    assert (
        next(
            layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)
        ).compute_dtype
        == "bfloat16"
    )
    logits = model(images(model, 2), training=True)["logits"]
    assert logits.dtype == tf.float32
    assert np.all(np.isfinite(logits))


@pytest.mark.parametrize("name", EACH)
def test_a_finite_gradient_reaches_every_trainable_variable(name):
    model = small(name)
    with tf.GradientTape() as tape:
        logits = model(images(model, 4), training=True)["logits"]
        loss = tf.reduce_sum(logits * tf.random.stateless_normal(logits.shape, (1, 1)))
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    assert [
        v.path
        for v, gradient in zip(variables, gradients)
        if gradient is None or not np.any(gradient)
    ] == []
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


@pytest.mark.parametrize("name", ["fcn8", *soaked(*(name for name in HEADS if name != "fcn8"))])
def test_xla_computes_the_same_logits(name):
    model = small(name)
    batch = images(model, 2)
    plain, compiled = model(batch)["logits"], tf.function(model, jit_compile=True)(batch)["logits"]
    np.testing.assert_allclose(compiled, plain, rtol=1e-3, atol=1e-3 * np.abs(plain).max())


@pytest.mark.parametrize("name", HEADS)
def test_an_image_has_the_same_logits_alone_and_in_a_batch(name):
    model = small(name)
    batch = images(model, 2)
    together, alone = model(batch)["logits"], model(batch[1:])["logits"]
    np.testing.assert_allclose(alone[0], together[1], rtol=1e-4, atol=1e-4 * np.abs(together).max())


@pytest.mark.parametrize("name", HEADS)
def test_every_class_is_about_as_likely_at_first(name):
    model = SMALL[name]()
    probabilities = tf.nn.softmax(model(images(model, 4), training=True)["logits"])
    np.testing.assert_allclose(tf.reduce_mean(probabilities, axis=(0, 1, 2)), 1 / CLASSES, atol=0.1)


@pytest.mark.parametrize("name", ["unet", "unet on resnet18", "segnet", "deconvnet"])
def test_the_logits_of_a_new_decoder_differ_from_pixel_to_pixel(name):
    # If they don't, training first moves biases towards the background, and learns nothing else for
    # hundreds of steps.
    model = small(name)
    logits = model(images(model, 4), training=True)["logits"]
    assert 0.1 < np.std(logits, axis=(0, 1, 2)).mean() < 1


def test_skip_scores_of_a_new_fcn_add_nothing():
    # A new FCN-8s is thus FCN-32s with upsampling in steps.
    model = small("fcn8")
    steps = keras.Model(
        model.input,
        [model.get_layer("head32_to16_logits").output, model.get_layer("head16_add").output],
    )
    plain, added = steps(images(model, 1))
    np.testing.assert_array_equal(plain[:, : added.shape[1], : added.shape[2]], added)
    assert np.any(added)


@without_weights()
def test_fcn_16s_can_start_from_the_weights_of_fcn_32s():
    coarse, fine = (
        {v.path: v.shape for v in SMALL["fcn8"](stride=stride).variables} for stride in (32, 16)
    )
    assert coarse.keys() - fine.keys() == {"head32_to1_logits/kernel"}
    assert all(coarse[path] == fine[path] for path in coarse.keys() & fine.keys())


@pytest.mark.soak
@pytest.mark.parametrize(
    "build",
    [
        lambda shape: fcn(backbone("resnet18"), shape, 2, width=0.1, output_stride=4),
        *soaked(
            lambda shape: unet(backbone("resnet20"), shape, 2, width=0.25),
            lambda shape: segnet(shape, 2, width=1 / 16, output_stride=4),
        ),
    ],
    ids=["fcn", "unet", "segnet"],
)
def test_a_few_steps_learn_to_distinguish_bright_squares_from_dark_ones(build):
    model = build((48, 32, 3))
    draw = np.random.default_rng(0)
    truth = np.repeat(np.repeat(draw.integers(0, 2, (4, 3, 2)), 16, axis=1), 16, axis=2)
    batch = tf.constant(
        truth[..., np.newaxis] * 2 - 1 + draw.normal(0, 0.3, (4, 48, 32, 3)), tf.float32
    )
    stride = 48 // model.output["logits"].shape[1]
    labels = truth[:, ::stride, ::stride]
    optimizer = keras.optimizers.Adam(0.01)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            logits = model(batch, training=True)["logits"]
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        optimizer.apply(
            tape.gradient(loss, [v.value for v in model.trainable_variables]),
            model.trainable_variables,
        )
        return loss

    losses = [float(step()) for _ in range(15)]
    assert losses[-1] < 0.6 * losses[0]


def test_fixed_upsampling_is_bilinear_interpolation_of_the_scores():
    model = fcn(
        backbone("resnet18"), (64, 96, 3), 3, stride=32, learned=False, output_stride=4, width=0.1
    )
    both = keras.Model(
        model.input, [model.get_layer("head32_logits").output, model.output["logits"]]
    )
    scores, logits = both(images(model, 2))
    expected = tf.image.resize(scores, (16, 24))
    np.testing.assert_allclose(logits[:, 4:-4, 4:-4], expected[:, 4:-4, 4:-4], atol=1e-5)


# -- names


@pytest.mark.parametrize("name", HEADS)
@without_weights()
def test_building_twice_gives_the_same_variable_paths(name):
    first, second = (
        [variable.path for variable in model.variables]
        for model in (SMALL[name](), SMALL[name](dropout=0.5))
    )
    assert [*first, "dropout/seed_generator_state"] == sorted(
        second, key=lambda path: path.startswith("dropout")
    )
    assert len(set(first)) == len(first)


@pytest.mark.parametrize(
    "name, network",
    [("fcn8", "resnet18"), ("unet on resnet18", "resnet18"), ("fcn8 on resnet20", "resnet20")],
)
@without_weights()
def test_the_backbones_variables_are_called_as_in_a_classifier(name, network):
    classifier = {
        variable.path for variable in classification_network(network, SIZE, CLASSES).variables
    }
    assert classifier - {variable.path for variable in SMALL[name]().variables} <= {
        "logits/kernel",
        "logits/bias",
    }


@pytest.mark.parametrize(
    "name, prefix", [("fcn8", "head"), ("unet on resnet18", ("decoder", "logits"))]
)
@without_weights()
def test_a_frozen_backbone_leaves_the_head_to_train(name, prefix):
    model = SMALL[name]()
    freeze(model, Model(backbone="resnet18", weights="run", freeze="backbone"))
    paths = [variable.path for variable in model.trainable_variables]
    assert paths
    assert all(path.startswith(prefix) for path in paths)


# -- errors


def test_a_map_that_the_backbone_lacks_is_an_error():
    with pytest.raises(ConfigError, match="stride 8.*32"):
        fcn(backbone("linear"), (32, 32, 3), 2)
    with pytest.raises(ConfigError, match="unet.*97.*model.backbone"):
        unet(backbone("linear"), SIZE, 2)


@pytest.mark.parametrize("network", [fcn, unet])
def test_a_backbone_with_maps_of_another_size_is_an_error(network):
    with pytest.raises(ConfigError, match="cells.*model.backbone"):
        network(backbone("fmp6_sqrt2"), (64, 64, 3), 2, width=0.1)


@pytest.mark.parametrize("kind", ["segnet", "deconvnet"])
def test_only_vgg16_is_mirrored(kind):
    assert SegmentationModel(backbone="vgg16", head={"kind": kind}).head.unpooling == "max"
    with pytest.raises(ValueError, match=f"{kind} mirrors VGG16.*vgg16.*fcn or unet for resnet18"):
        SegmentationModel(backbone="resnet18", head={"kind": kind})
