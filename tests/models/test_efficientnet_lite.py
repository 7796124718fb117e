"""Guards EfficientNet-Lite: parameters, shapes of feature maps, padding."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cvpipe.models.abstract import without_weights
from cvpipe.models.blocks import Style
from cvpipe.models.build import backbone, classification_network
from cvpipe.models.describe import describe


def features_of(name, shape, width=1.0):
    return backbone(name)(keras.Input(shape), width=width, style=Style())


@pytest.mark.parametrize(
    "number, trainable, blocks",
    [
        (0, 4_652_008, 16),
        (1, 5_416_680, 21),
        (2, 6_092_072, 21),
        pytest.param(3, 8_197_096, 24, marks=pytest.mark.soak),
        pytest.param(4, 13_006_568, 30, marks=pytest.mark.soak),
    ],
)
def test_the_networks_have_the_parameters_of_the_published_checkpoints(number, trainable, blocks):
    name = f"efficientnet_lite{number}"
    assert describe(name)["trainable_parameters"] == trainable
    with without_weights():
        model = classification_network(name, (64, 64, 3), 10)
    depthwise = [layer for layer in model.layers if layer.name.endswith("_depthwise")]
    assert len(depthwise) == blocks


@pytest.mark.parametrize("height, width", [(224, 224), (97, 64), (33, 47)])
@without_weights()
def test_maps_have_the_channels_of_the_table(height, width):
    shapes = {
        stride: tuple(x.shape[1:])
        for stride, x in features_of("efficientnet_lite0", (height, width, 3)).items()
    }
    channels = {2: 16, 4: 24, 8: 40, 16: 112, 32: 1280}
    assert shapes == {
        stride: (-(-height // stride), -(-width // stride), count)
        for stride, count in channels.items()
    }


@without_weights()
def test_stem_and_head_are_scaled_by_width_alone():
    lite2 = features_of("efficientnet_lite2", (64, 64, 3))
    assert lite2[32].shape[-1] == 1280
    assert [x.shape[-1] for x in lite2.values()][:4] == [16, 24, 48, 120]
    half = features_of("efficientnet_lite0", (64, 64, 3), width=0.5)
    assert [x.shape[-1] for x in half.values()] == [8, 16, 24, 56, 640]


def test_strided_convolutions_pad_an_even_image_as_tensorflow_does():
    image = keras.Input((8, 10, 3))
    features = backbone("efficientnet_lite0")(image, width=0.25, style=Style())
    model = keras.Model(image, features[2])
    pixels = tf.random.stateless_normal((1, 8, 10, 3), (0, 0))
    stem = keras.Model(image, model.get_layer("stem").output)
    expected = tf.nn.conv2d(pixels, model.get_layer("stem").kernel, 2, "SAME")
    np.testing.assert_allclose(stem(pixels), expected, atol=1e-6)
