"""Guards detection networks: published parameters and boxes, priors, gradients, precision."""

from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf

from conftest import soaked
from cvpipe.errors import ConfigError
from cvpipe.models.abstract import without_weights
from cvpipe.models.blocks import Style
from cvpipe.models.build import backbone, classification_network
from cvpipe.models.detection_heads import Part, predict_boxes, prior_bias
from cvpipe.models.detectors import (
    SSD300,
    SSD512,
    SsdMaps,
    grids_of,
    ssd,
    ssd_grids,
    ssd_maps,
    yolo_v1,
    yolo_v2,
    yolo_v3,
)
from cvpipe.models.initializers import Initializer
from cvpipe.models.norms import Norm
from cvpipe.models.pyramid import Extra

CONSTANT = Style(initializer=Initializer("constant"))
"""Constant kernels, so that large networks are built quickly."""
BIASES = CONSTANT._replace(norm=Norm("none"))
SSD300_BOXES, SSD512_BOXES = (4, 6, 6, 6, 4, 4), (4, 6, 6, 6, 6, 4, 4)
LITTLE = SsdMaps((4,), (Extra(512), Extra(256)))
SIDES = SsdMaps((2, 4), (Extra(512),))

SMALL = {
    "ssd": lambda **settings: ssd(
        backbone("resnet20"), (32, 24, 3), 4, maps=LITTLE, boxes=(2, 3, 2), width=0.5, **settings
    ),
    "ssd on vgg": lambda **settings: ssd(
        backbone("ssd_vgg16"),
        (64, 40, 3),
        4,
        maps=ssd_maps((64, 40), (8, 16)),
        boxes=(2, 2, 2, 2),
        width=1 / 32,
        **settings,
    ),
    "ssd with a pyramid": lambda **settings: ssd(
        backbone("resnet20"),
        (32, 24, 3),
        4,
        maps=SIDES,
        boxes=(2, 2, 2),
        pyramid=64,
        width=0.25,
        **settings,
    ),
    "ssdlite": lambda **settings: ssd(
        backbone("mobilenet_v2"),
        (64, 64, 3),
        4,
        maps=ssd_maps((64, 64), (16, 32)),
        boxes=(2, 2, 2),
        separable=True,
        width=0.1,
        **settings,
    ),
    "ssdlite with a pyramid": lambda **settings: ssd(
        backbone("mobilenet_v2"),
        (64, 64, 3),
        4,
        maps=SsdMaps((8, 16), (Extra(64),)),
        boxes=(2, 2, 2),
        separable=True,
        pyramid=64,
        width=0.1,
        **settings,
    ),
    "yolo_v1": lambda **settings: yolo_v1(
        backbone("resnet20"), (32, 24, 3), 3, stride=8, width=0.5, **settings
    ),
    "yolo_v1 on extraction": lambda **settings: yolo_v1(
        backbone("extraction"), (64, 64, 3), 3, stride=64, width=1 / 64, **settings
    ),
    "yolo_v2": lambda **settings: yolo_v2(
        backbone("resnet20"), (32, 24, 3), 3, stride=8, anchors=2, width=0.5, **settings
    ),
    "yolo_v2 on darknet19": lambda **settings: yolo_v2(
        backbone("darknet19"), (64, 96, 3), 3, width=1 / 32, **settings
    ),
    "yolo_v3": lambda **settings: yolo_v3(
        backbone("resnet18"), (48, 56, 3), 3, strides=(4, 8, 16), width=0.1, **settings
    ),
    "yolo_v3 on darknet53": lambda **settings: yolo_v3(
        backbone("darknet53"), (64, 32, 3), 3, width=1 / 32, **settings
    ),
}
"""Small networks, which run quickly."""
QUICK = ["ssd", "ssdlite", "yolo_v1", "yolo_v2", "yolo_v3"]
EACH = [*QUICK, *soaked(*(name for name in SMALL if name not in QUICK))]


@cache
def small(name):
    """Return a network of `SMALL`, shared by all tests that don't change its weights."""
    # The seed makes the weights independent of the order of tests.
    keras.utils.set_random_seed(0)
    return SMALL[name]()


@pytest.fixture(autouse=True)
def same_weights_every_time():
    keras.utils.set_random_seed(0)


def trainable_parameters(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def images(model, count):
    return tf.random.stateless_normal((count, *model.input_shape[1:]), (0, 0))


def output_shapes(model):
    return {name: tuple(x.shape[1:]) for name, x in model.output.items()}


# -- as published


@pytest.mark.parametrize(
    "logits, parameters", [(21, 26_285_486), (81, 34_305_206), (91, 35_641_826)]
)
@without_weights()
def test_ssd300_has_the_published_parameters_and_8732_boxes(logits, parameters):
    model = ssd(
        backbone("ssd_vgg16"), (300, 300, 3), logits, maps=SSD300, boxes=SSD300_BOXES, style=BIASES
    )
    assert model.count_params() == trainable_parameters(model) == parameters
    assert output_shapes(model) == {"boxes": (8732, 4), "logits": (8732, logits)}


@without_weights()
def test_ssd512_has_24564_boxes():
    model = ssd(
        backbone("ssd_vgg16"), (512, 512, 3), 21, maps=SSD512, boxes=SSD512_BOXES, style=BIASES
    )
    assert output_shapes(model) == {"boxes": (24564, 4), "logits": (24564, 21)}


def test_ssd_maps_have_the_published_sizes():
    assert ssd_grids((300, 300), SSD300) == tuple((size, size) for size in (38, 19, 10, 5, 3, 1))
    assert ssd_grids((512, 512), SSD512) == tuple((size, size) for size in (64, 32, 16, 8, 4, 2, 1))


@without_weights()
def test_yolo_v1_has_the_published_parameters_and_98_boxes():
    model = yolo_v1(backbone("extraction"), (448, 448, 3), 20, style=BIASES)
    assert trainable_parameters(model) == 271_703_550
    assert output_shapes(model) == {"boxes": (98, 4), "objectness": (98,), "logits": (49, 20)}


@pytest.mark.parametrize("classes, parameters", [(20, 50_655_389), (80, 50_962_889)])
@without_weights()
def test_yolo_v2_has_the_published_parameters_and_845_boxes(classes, parameters):
    model = yolo_v2(backbone("darknet19"), (416, 416, 3), classes, style=CONSTANT)
    assert trainable_parameters(model) == parameters
    assert output_shapes(model) == {
        "boxes": (845, 4),
        "objectness": (845,),
        "logits": (845, classes),
    }


@pytest.mark.parametrize("classes, parameters", [(20, 61_626_049), (80, 61_949_149)])
@without_weights()
def test_yolo_v3_has_the_published_parameters_and_10647_boxes(classes, parameters):
    model = yolo_v3(backbone("darknet53"), (416, 416, 3), classes, style=CONSTANT)
    assert trainable_parameters(model) == parameters
    assert output_shapes(model) == {
        "boxes": (10647, 4),
        "objectness": (10647,),
        "logits": (10647, classes),
    }


@without_weights()
def test_ssdlite_on_mobilenet_v2_is_about_as_large_as_the_papers():
    # The counts differ slightly: the paper's map of stride 16 is the expansion inside a block, and
    # cvpipe's is the output of a block.
    maps = ssd_maps((320, 320), (16, 32))
    model = ssd(
        backbone("mobilenet_v2"),
        (320, 320, 3),
        81,
        maps=maps,
        boxes=(6,) * 6,
        separable=True,
        style=CONSTANT,
    )
    assert ssd_grids((320, 320), maps) == tuple((size, size) for size in (20, 10, 5, 3, 2, 1))
    assert trainable_parameters(model) == pytest.approx(4.3e6, rel=0.02)


# -- where boxes are


def test_boxes_are_counted_map_by_map_row_by_row_cell_by_cell():
    rng = np.random.default_rng(0)
    grids, boxes, channels, values = [(3, 5), (2, 1)], (2, 3), 4, 6
    inputs = [keras.Input((*grid, channels)) for grid in grids]
    model = keras.Model(
        inputs, predict_boxes(inputs, boxes, {"answers": Part(values)}, kernel=1, style=Style())
    )
    maps = [rng.normal(size=(2, *grid, channels)).astype("float32") for grid in grids]
    expected = []
    for index, (x, count) in enumerate(zip(maps, boxes)):
        layer = model.get_layer(f"head{index + 1}_answers")
        kernel, bias = (
            rng.normal(size=variable.shape).astype("float32")
            for variable in layer.trainable_variables
        )
        layer.set_weights([kernel, bias])
        for row in range(x.shape[1]):
            for column in range(x.shape[2]):
                for box in range(count):
                    of_box = slice(box * values, (box + 1) * values)
                    expected.append(x[:, row, column] @ kernel[0, 0, :, of_box] + bias[of_box])
    np.testing.assert_allclose(
        model(maps)["answers"], np.stack(expected, axis=1), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", ["ssd", "ssdlite", "yolo_v3"])
@without_weights()
def test_each_answer_of_a_box_comes_from_the_same_cell(name):
    model = SMALL[name]()
    for index in range(len([layer for layer in model.layers if layer.name.endswith("_boxes")])):
        inputs = [model.get_layer(f"head{index + 1}_{part}") for part in model.output]
        assert len({layer.output.shape[1:3] for layer in inputs}) == 1


@pytest.mark.parametrize("size", [(300, 300), (257, 401)])
@pytest.mark.parametrize("maps", [SSD300, SSD512, SsdMaps((8,), (Extra(512),))])
@without_weights()
def test_grids_are_known_without_the_model(size, maps):
    grids = ssd_grids(size, maps)
    model = ssd(
        backbone("ssd_vgg16"), (*size, 3), 4, maps=maps, boxes=[1] * len(grids), width=1 / 128
    )
    heads = [layer for layer in model.layers if layer.name.endswith("_boxes")]
    assert [tuple(layer.output.shape[1:3]) for layer in heads] == list(grids)
    assert model.output["boxes"].shape[1] == sum(rows * columns for rows, columns in grids)


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (40, 200)])
def test_extra_layers_go_on_until_the_map_is_small(size):
    for smallest in (1, 3):
        *_, before, last = ssd_grids(size, ssd_maps(size, (4,), smallest))
        assert max(last) <= smallest < max(before)
    assert ssd_maps((8, 4), (8,)).extras == ()


@pytest.mark.parametrize("size", [(64, 64), (70, 45), (33, 128)])
@without_weights()
def test_yolos_grids_are_known_without_the_model(size):
    cells = [rows * columns for rows, columns in grids_of(size, (4, 8, 16))]
    settings = {"width": 0.1}
    assert output_shapes(
        yolo_v3(backbone("resnet18"), (*size, 3), 2, strides=(4, 8, 16), **settings)
    )["objectness"] == (3 * sum(cells),)
    assert output_shapes(yolo_v2(backbone("resnet18"), (*size, 3), 2, stride=16, **settings))[
        "objectness"
    ] == (5 * cells[2],)
    assert output_shapes(yolo_v1(backbone("resnet18"), (*size, 3), 2, stride=8, **settings))[
        "logits"
    ] == (cells[1], 2)


@without_weights()
def test_yolo_v2_passes_fine_features_through():
    model = SMALL["yolo_v2 on darknet19"]()
    joined = model.get_layer("neck_concatenate")
    assert [tuple(x.shape[1:]) for x in joined.input] == [(2, 3, 4 * 2), (2, 3, 32)]
    whole = yolo_v2(backbone("darknet19"), (416, 416, 3), 1, width=0.25, style=CONSTANT)
    assert [x.shape[-1] for x in whole.get_layer("neck_concatenate").input] == [64, 256]


# -- behavior


@pytest.mark.parametrize(
    "name", ["ssd", "yolo_v1", *soaked("ssd on vgg", "ssdlite", "yolo_v2", "yolo_v3")]
)
def test_outputs_are_float32_under_mixed_bfloat16(name, mixed_bfloat16):
    model = SMALL[name]()
    convolution = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    assert convolution.compute_dtype == "bfloat16"
    outputs = model(images(model, 2), training=True)
    assert {x.dtype for x in outputs.values()} == {tf.float32}
    assert all(np.all(np.isfinite(x)) for x in outputs.values())


@pytest.mark.parametrize("name", EACH)
def test_a_gradient_reaches_every_trainable_variable(name):
    model = small(name)
    with tf.GradientTape() as tape:
        outputs = model(images(model, 8), training=True)
        loss = tf.add_n(
            [
                tf.reduce_sum(x * tf.random.stateless_normal(x.shape, (1, 1)))
                for x in outputs.values()
            ]
        )
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    assert [
        v.path
        for v, gradient in zip(variables, gradients)
        if gradient is None or not np.any(gradient)
    ] == []


@pytest.mark.parametrize("name", EACH)
def test_an_image_has_the_same_answers_alone_and_in_a_batch(name):
    model = small(name)
    batch = images(model, 2)
    together, alone = model(batch), model(batch[1:])
    for part, values in together.items():
        np.testing.assert_allclose(
            alone[part][0], values[1], rtol=1e-4, atol=1e-4 * np.abs(values).max()
        )


@pytest.mark.parametrize(
    "name", ["ssd on vgg", *soaked("ssdlite with a pyramid", "yolo_v2", "yolo_v3")]
)
def test_xla_computes_the_same_answers(name):
    model = small(name)
    batch = images(model, 2)
    plain, compiled = model(batch), tf.function(model, jit_compile=True)(batch)
    for part, values in plain.items():
        np.testing.assert_allclose(
            compiled[part], values, rtol=1e-3, atol=1e-3 * np.abs(values).max()
        )


@pytest.mark.parametrize("name", SMALL)
@without_weights()
def test_building_twice_gives_the_same_variable_paths(name):
    first, second = [
        [variable.path for variable in model.variables] for model in (SMALL[name](), SMALL[name]())
    ]
    assert first == second
    assert len(set(first)) == len(first)


@without_weights()
def test_the_backbones_variables_are_called_as_in_a_classifier():
    classifier = {
        variable.path for variable in classification_network("resnet20", (32, 24, 3), 3).variables
    }
    for name in ("ssd", "ssd with a pyramid", "yolo_v1", "yolo_v2"):
        assert classifier - {variable.path for variable in SMALL[name]().variables} == {
            "logits/kernel",
            "logits/bias",
        }


# -- priors


@pytest.mark.parametrize("probability", [0.01, 0.5, 0.9])
def test_a_prior_bias_gives_its_probability(probability):
    assert tf.sigmoid(prior_bias(probability)).numpy() == pytest.approx(probability)


@pytest.mark.parametrize("name", ["ssd", "yolo_v2", *soaked("ssdlite with a pyramid", "yolo_v3")])
def test_the_prior_applies_only_to_class_heads(name):
    model = SMALL[name](bias=prior_bias(0.01))
    heads = [
        layer
        for layer in model.layers
        if layer.name.startswith("head") and isinstance(layer, keras.layers.Conv2D)
    ]
    assert {layer.name.split("_")[1] for layer in heads} == set(model.output)
    for layer in heads:
        expected = prior_bias(0.01) if layer.name.endswith("_logits") else 0
        np.testing.assert_allclose(layer.bias, expected)
    probabilities = tf.sigmoid(model(images(model, 2), training=True)["logits"])
    assert np.mean(probabilities) == pytest.approx(0.01, abs=0.005)


def test_objectness_has_a_separate_prior():
    model = SMALL["yolo_v3"](objectness_bias=prior_bias(0.01))
    outputs = tf.nest.map_structure(tf.sigmoid, model(images(model, 2), training=True))
    assert np.mean(outputs["objectness"]) == pytest.approx(0.01, abs=0.005)
    assert np.mean(outputs["logits"]) == pytest.approx(0.5, abs=0.1)


# -- errors


@without_weights()
def test_a_map_that_the_backbone_lacks_is_an_error():
    with pytest.raises(ConfigError, match="stride 8.*1, 2, 4"):
        ssd(backbone("resnet20"), (32, 32, 3), 4, maps=SsdMaps((4, 8), ()), boxes=(2, 2))
    with pytest.raises(ConfigError, match="stride 1.*2, 4, 8, 16, 32"):
        yolo_v3(backbone("resnet18"), (32, 32, 3), 4, strides=(1, 2, 4), width=0.1)


@without_weights()
def test_an_image_too_small_for_the_extra_layers_is_an_error():
    with pytest.raises(ConfigError, match="too small.*prepare.size"):
        ssd(backbone("ssd_vgg16"), (128, 128, 3), 4, maps=SSD300, boxes=SSD300_BOXES, width=1 / 64)


def test_a_backbone_with_maps_of_another_size_is_an_error():
    with pytest.raises(ConfigError, match="28×28 cells.*32×32.*model.backbone"):
        yolo_v2(backbone("lenet5"), (32, 32, 1), 4, stride=2)
