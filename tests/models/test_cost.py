"""Guards counts of parameters and multiply-adds, against published numbers."""

import json

import keras
import pytest

from cvpipe.errors import ConfigError
from cvpipe.models.catalog import NETWORKS
from cvpipe.models.cost import multiply_adds
from cvpipe.models.describe import describe


@pytest.mark.parametrize(
    "name, parameters, billions",
    [
        ("resnet18", 11_689_512, 1.814),
        ("resnet34", 21_797_672, 3.664),
        ("resnet50", 25_557_032, 4.089),
    ],
)
def test_imagenet_resnets_have_torchvisions_parameter_counts_and_multiply_adds(
    name, parameters, billions
):
    description = describe(name)
    assert description["trainable_parameters"] == parameters
    assert round(description["macs"] / 1e9, 3) == billions


def test_mobilenet_v2_has_keras_applications_parameter_counts_and_torchvisions_multiply_adds():
    description = describe("mobilenet_v2")
    assert description["parameters"] == 3_538_984
    assert description["trainable_parameters"] == 3_504_872
    assert round(description["macs"] / 1e9, 3) == 0.301


@pytest.mark.parametrize("name, n", [("resnet8", 1), ("resnet20", 3), ("resnet32", 5)])
def test_cifar_resnets_have_the_parameter_count_and_multiply_adds_of_section_4_2(name, n):
    # (map size, input maps, output maps) of every 3×3 convolution, in the order of the paper's
    # table.
    layers = [(32, 3, 16)] + [(32, 16, 16)] * 2 * n
    layers += [(16, 16, 32)] + [(16, 32, 32)] * (2 * n - 1)
    layers += [(8, 32, 64)] + [(8, 64, 64)] * (2 * n - 1)
    assert len(layers) + 1 == 6 * n + 2
    description = describe(name)
    assert (
        description["trainable_parameters"]
        == sum(9 * x * y + 2 * y for _, x, y in layers) + (64 + 1) * 10
    )
    assert description["parameters"] == sum(9 * x * y + 4 * y for _, x, y in layers) + (64 + 1) * 10
    assert description["macs"] == sum(size**2 * 9 * x * y for size, x, y in layers) + 64 * 10


def test_lenet5_is_described_as_published_with_a_dense_c3():
    assert describe("lenet5") == {
        "name": "lenet5",
        "task": "classification",
        "parameters": 61_706,  # 60,000 in the paper, where C3 reads only some of S2's maps
        "trainable_parameters": 61_706,
        "macs": 28 * 28 * 25 * 6 + 10 * 10 * 25 * 6 * 16 + 25 * 16 * 120 + 120 * 84 + 84 * 10,
        "activations": 1024 + 4704 + 1176 + 1600 + 400 + 120 + 120 + 84 + 10,
        "activation_bytes": 4 * 9238,
        "receptive_field": [32, 32],
        "input_shape": [32, 32, 1],
        "paper": NETWORKS["lenet5"].paper,
        "published": {
            "parameters": 61_706,
            "counted": "trainable",
            "gmacs": None,
            "source": "C",
            "deviation": "",
        },
    }


def test_a_description_survives_json():
    description = describe("resnet20")
    assert json.loads(json.dumps(description)) == description


def test_an_unknown_network_is_an_error():
    with pytest.raises(ConfigError, match="'resnet19'"):
        describe("resnet19")


@pytest.mark.parametrize(
    "layer, expected",
    [
        (keras.layers.Conv2D(6, 3, padding="same"), 8 * 10 * 9 * 4 * 6),
        (keras.layers.Conv2D(6, 3, 2), 3 * 4 * 9 * 4 * 6),
        (keras.layers.Conv2D(6, 3, dilation_rate=2), 4 * 6 * 9 * 4 * 6),
        (keras.layers.Conv2D(6, 3, padding="same", groups=2), 8 * 10 * 9 * 2 * 6),
        (keras.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2), 8 * 10 * 9 * 4 * 2),
        (keras.layers.Conv2DTranspose(6, 4, 2, padding="same"), 8 * 10 * 16 * 4 * 6),
        (keras.layers.Dense(6), 8 * 10 * 4 * 6),
        (keras.layers.BatchNormalization(), 0),
        (keras.layers.GlobalAveragePooling2D(), 0),
    ],
    ids=[
        "plain",
        "strided",
        "dilated",
        "grouped",
        "depthwise",
        "transposed",
        "dense",
        "norm",
        "pool",
    ],
)
def test_multiply_adds_of_a_layer(layer, expected):
    image = keras.Input((8, 10, 4))
    assert multiply_adds(keras.Model(image, layer(image))) == expected
