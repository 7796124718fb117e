"""Guards feature pyramids: shapes, and the maps that each map depends on."""

import keras
import numpy as np
import pytest

from cvpipe.errors import ConfigError
from cvpipe.models.blocks import Style
from cvpipe.models.detectors import SSD300
from cvpipe.models.norms import Norm
from cvpipe.models.pyramid import (
    Extra,
    SpaceToDepth,
    extra_maps,
    feature_pyramid,
    reach,
    take,
    upsample_to,
)

PLAIN = Style(Norm("none"))


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def shapes(maps):
    return [tuple(x.shape[1:]) for x in maps]


# -- passthrough


@pytest.mark.parametrize("rows, columns", [(4, 6), (5, 4), (3, 7)])
def test_passthrough_stacks_each_square_of_four_pixels(rows, columns):
    x = normal(2, rows, columns, 3)
    expected = np.zeros((2, -(-rows // 2), -(-columns // 2), 12), "float32")
    for row in range(rows):
        for column in range(columns):
            place = 3 * (2 * (row % 2) + column % 2)
            expected[:, row // 2, column // 2, place : place + 3] = x[:, row, column]
    np.testing.assert_array_equal(SpaceToDepth(name="passthrough")(x), expected)


# -- extra maps


def test_ssd300s_extra_layers_make_maps_of_10_5_3_and_1():
    maps = extra_maps(
        keras.Input((19, 19, 1024)), SSD300.extras, width=1, separable=False, style=PLAIN
    )
    assert shapes(maps) == [(10, 10, 512), (5, 5, 256), (3, 3, 256), (1, 1, 256)]


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize(
    "extra", [Extra(8), Extra(8, stride=1, padding=0), Extra(8, kernel=4, stride=1)]
)
@pytest.mark.parametrize("rows, columns", [(9, 12), (3, 4)])
def test_an_extra_layer_computes_the_size_of_its_map(extra, rows, columns, separable):
    (x,) = extra_maps(
        keras.Input((rows, columns, 8)), [extra], width=1, separable=separable, style=PLAIN
    )
    assert shapes([x]) == [(extra.pixels(rows), extra.pixels(columns), 8)]


def test_extra_maps_have_no_more_channels_than_their_input():
    maps = extra_maps(
        keras.Input((8, 8, 48)),
        [Extra(512), Extra(256)],
        width=0.125,
        separable=True,
        style=Style(),
    )
    assert shapes(maps) == [(4, 4, 48), (2, 2, 32)]


def test_a_separable_extra_layer_filters_each_channel():
    image = keras.Input((8, 8, 48))
    model = keras.Model(image, extra_maps(image, [Extra(32)], width=1, separable=True, style=PLAIN))
    assert {
        variable.path: tuple(variable.shape)
        for variable in model.variables
        if "kernel" in variable.path
    } == {
        "extra1_reduce/kernel": (1, 1, 48, 16),
        "extra1_depthwise/kernel": (3, 3, 16, 1),
        "extra1/kernel": (1, 1, 16, 32),
    }


def test_a_map_too_small_for_an_extra_layer_is_an_error():
    with pytest.raises(ConfigError, match="2 pixels.*prepare.size"):
        Extra(256, stride=1, padding=0).pixels(2)


# -- strides of the backbone's maps


def test_the_error_for_a_missing_stride_lists_the_strides_of_the_backbone():
    with pytest.raises(ConfigError, match="stride 8.*1, 2, 4"):
        take({stride: keras.Input((16 // stride, 16 // stride, 3)) for stride in (1, 2, 4)}, [4, 8])


def test_maps_are_added_until_the_stride_is_reached():
    features = {2: keras.Input((9, 7, 3)), 4: keras.Input((5, 4, 6))}
    reached = reach(features, 16, Style())
    assert {stride: shapes([x])[0] for stride, x in reached.items()} == {
        2: (9, 7, 3),
        4: (5, 4, 6),
        8: (3, 2, 12),
        16: (2, 1, 24),
    }
    assert list(features) == [2, 4]
    assert reach(features, 4, Style()) == features


# -- feature pyramid


@pytest.mark.parametrize("fine", [(10, 6), (9, 5), (5, 3), (14, 9)])
def test_upsampling_repeats_pixels_and_cuts_them_to_size(fine):
    x = normal(1, 5, 3, 2)
    image = keras.Input((5, 3, 2))
    y = keras.Model(image, upsample_to(image, keras.Input((*fine, 1)), "up"))(x)
    times = [-(-fine[0] // 5), -(-fine[1] // 3)]
    expected = [
        [x[0, row // times[0], column // times[1]] for column in range(fine[1])]
        for row in range(fine[0])
    ]
    np.testing.assert_array_equal(y[0], expected)


def pyramid(sizes, channels, style):
    inputs = [keras.Input((*size, 3)) for size in sizes]
    return keras.Model(inputs, feature_pyramid(inputs, channels, style=style))


def test_a_pyramid_keeps_sizes_and_has_the_same_channels_everywhere():
    assert shapes(pyramid([(19, 14), (10, 7), (5, 4)], 8, Style()).output) == [
        (19, 14, 8),
        (10, 7, 8),
        (5, 4, 8),
    ]


def test_a_pyramid_adds_all_coarser_maps_to_each():
    sizes = [(7, 6), (4, 3), (2, 2)]
    model = pyramid(sizes, 3, PLAIN)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = np.zeros(layer.kernel.shape, "float32")
            kernel[layer.kernel.shape[0] // 2, layer.kernel.shape[1] // 2] = np.eye(3)
            layer.kernel.assign(kernel)
    fine, middle, coarse = (normal(1, *size, 3) for size in sizes)

    def twice(x, rows, columns):
        return x.repeat(2, axis=1).repeat(2, axis=2)[:, :rows, :columns]

    middle_sum = middle + twice(coarse, 4, 3)
    for found, expected in zip(
        model([fine, middle, coarse]), (fine + twice(middle_sum, 7, 6), middle_sum, coarse)
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_pyramid_has_the_parameters_of_the_paper():
    # Lateral convolutions are 1×1, and output convolutions 3×3. All have 256 channels, and biases,
    # because there is no norm.
    inputs = [
        keras.Input((8 // 2**index, 8 // 2**index, channels))
        for index, channels in enumerate((512, 1024, 2048))
    ]
    model = keras.Model(inputs, feature_pyramid(inputs, 256, style=PLAIN))
    assert model.count_params() == (512 + 1024 + 2048) * 256 + 3 * 256 + 3 * (9 * 256 * 256 + 256)
