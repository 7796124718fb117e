"""Guards Darknet: the published parameters, shapes and layers."""

from math import ceil, prod

import keras
import numpy as np
import pytest

from cvpipe.models.blocks import Style
from cvpipe.models.darknet import darknet19, darknet53, extraction, leaky_conv
from cvpipe.models.describe import describe
from cvpipe.models.norms import Norm


def small(backbone, shape=(64, 64, 3), width=1 / 32, style=Style()):
    image = keras.Input(shape)
    return keras.Model(image, backbone(image, width=width, style=style))


def convolutions(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


@pytest.mark.parametrize("name, trainable", [("darknet19", 20_842_376), ("darknet53", 41_609_928)])
def test_classifiers_have_the_published_parameter_counts(name, trainable):
    assert describe(name)["trainable_parameters"] == trainable


@pytest.mark.parametrize("backbone, count", [(extraction, 20), (darknet19, 18), (darknet53, 52)])
def test_a_network_has_as_many_convolutions_as_its_table(backbone, count):
    assert len(convolutions(small(backbone))) == count


def test_extraction_has_the_channels_of_figure_3():
    model = small(extraction, width=1)
    assert [layer.filters for layer in convolutions(model)] == [
        64,
        192,
        128,
        256,
        256,
        512,
        256,
        512,
        256,
        512,
        256,
        512,
        256,
        512,
        512,
        1024,
        512,
        1024,
        512,
        1024,
    ]
    assert {variable.path.split("/")[-1] for variable in model.variables} == {"kernel", "bias"}


@pytest.mark.parametrize("height, width", [(64, 64), (33, 97)])
@pytest.mark.parametrize(
    "backbone, strides",
    [
        (extraction, [2, 4, 8, 16, 32]),
        (darknet19, [1, 2, 4, 8, 16, 32]),
        (darknet53, [1, 2, 4, 8, 16, 32]),
    ],
)
def test_a_map_has_a_pixel_for_every_stride_pixels_of_the_image(backbone, strides, height, width):
    features = small(backbone, (height, width, 3)).output
    assert list(features) == strides
    for stride, x in features.items():
        assert tuple(x.shape[1:3]) == (ceil(height / stride), ceil(width / stride))


@pytest.mark.parametrize("kind", ["batch", "none"])
def test_negative_values_are_divided_by_ten(kind):
    image = keras.Input((1, 5, 1))
    output = leaky_conv(image, 1, 1, style=Style(Norm(kind, epsilon=0.0)), name="convolution")
    model = keras.Model(image, output)
    model.trainable_variables[0].assign(np.ones((1, 1, 1, 1)))
    x = np.array([-20, -1, 0, 0.5, 30], "float32")
    np.testing.assert_allclose(
        model(x.reshape(1, 1, 5, 1))[0, 0, :, 0], [-2, -0.1, 0, 0.5, 30], rtol=1e-6
    )


def test_darknet53_adds_its_branches_without_an_activation_after():
    model = small(darknet53)
    adds = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    assert len(adds) == 23
    x = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    for add in adds[::8]:
        (first, second), total = (
            keras.Model(model.input, tensor)(x) for tensor in (add.input, add.output)
        )
        np.testing.assert_allclose(total, first + second, rtol=1e-5)
    assert np.asarray(model(x)[32]).min() < 0


def test_later_branches_of_darknet53_are_left_out_more_often():
    model = small(darknet53, style=Style(stochastic_depth=0.23))
    rates = [layer.rate for layer in model.layers if layer.name.endswith("_drop")]
    np.testing.assert_allclose(rates, [0.01 * (index + 1) for index in range(23)])


@pytest.mark.parametrize("backbone", [extraction, darknet19, darknet53])
def test_half_the_width_has_half_the_channels(backbone):
    whole, half = (small(backbone, width=width).output for width in (1 / 8, 1 / 16))
    assert [2 * x.shape[-1] for x in half.values()] == [x.shape[-1] for x in whole.values()]
    assert (
        sum(prod(variable.shape) for variable in small(backbone, width=1e-4).trainable_variables)
        < 1000
    )
