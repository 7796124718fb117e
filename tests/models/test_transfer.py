"""Guards weights of Keras Applications: with them, cvpipe's networks give Keras's logits."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from conftest import soaked
from cvpipe.errors import ConfigError
from cvpipe.models.blocks import Style
from cvpipe.models.build import classification_network
from cvpipe.models.norms import Norm
from cvpipe.models.transfer import transfer

# By cvpipe's network: Keras's network, side of the image, width, epsilon of norms, True if Keras
# pads on one side, and arguments of Keras's network.
CASES: dict[str, tuple[str, int, float, float, bool, dict[str, Any]]] = {
    "mobilenet_v1": ("MobileNet", 32, 0.25, 1e-3, True, {"alpha": 0.25}),
    "mobilenet_v2": ("MobileNetV2", 32, 0.35, 1e-3, True, {"alpha": 0.35}),
    "mobilenet_v3_small": (
        "MobileNetV3Small",
        32,
        1.0,
        1e-3,
        True,
        {"include_preprocessing": False},
    ),
    "mobilenet_v3_large": (
        "MobileNetV3Large",
        32,
        1.0,
        1e-3,
        True,
        {"include_preprocessing": False},
    ),
    "vgg16_fc": ("VGG16", 32, 1.0, 1e-5, False, {}),
    "vgg19_fc": ("VGG19", 32, 1.0, 1e-5, False, {}),
    "densenet121": ("DenseNet121", 32, 1.0, 1.001e-5, False, {}),
    "inception_v3": ("InceptionV3", 75, 1.0, 1e-3, False, {}),
    "inception_resnet_v2": ("InceptionResNetV2", 75, 1.0, 1e-3, False, {}),
    "xception": ("Xception", 71, 1.0, 1e-3, False, {}),
    # With sides that stay odd, both kinds of padding are equal. NASNet's pooling pads as in the
    # paper.
    "nasnet_mobile": ("NASNetMobile", 67, 1.0, 1e-3, False, {}),
    "efficientnet_b0": ("EfficientNetB0", 32, 1.0, 1e-3, True, {}),
}
RANGE = {"efficientnet_b0": 255.0}
"""Largest pixel value of networks that scale their images themselves."""


@pytest.mark.parametrize(
    "name", ["mobilenet_v1", *soaked(*(name for name in CASES if name != "mobilenet_v1"))]
)
def test_keras_weights_give_keras_logits(name: str) -> None:
    theirs_name, side, width, epsilon, one_sided, options = CASES[name]
    theirs = getattr(keras.applications, theirs_name)(
        input_shape=(side, side, 3), weights=None, classes=7, classifier_activation=None, **options
    )
    ours = classification_network(
        name,
        (side, side, 3),
        7,
        width=width,
        style=Style(Norm(epsilon=epsilon), padding="tensorflow" if one_sided else None),
    )
    draw = np.random.default_rng(0)
    for layer in theirs.layers:
        if not isinstance(layer, keras.layers.Normalization):
            # Perturb the initial values, so that no batch normalization is the identity.
            layer.set_weights(
                [
                    w * draw.uniform(0.5, 1.5, w.shape) + draw.normal(0, 0.01, w.shape) ** 2
                    for w in layer.get_weights()
                ]
            )
    transfer(theirs, ours)
    images = draw.random((2, side, side, 3), np.float32)
    expected = np.asarray(theirs(RANGE.get(name, 1.0) * images, training=False))
    found = ours(images, training=False)["logits"]
    scale = np.abs(expected).max()
    assert np.ptp(expected) > 1e-3 * scale > 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * scale)


def test_weights_of_another_network_are_refused() -> None:
    ours = classification_network("resnet8", (16, 16, 3), 7, width=0.25)
    for source, message in (
        (classification_network("resnet8", (16, 16, 3), 7, width=0.5), "the networks differ"),
        (classification_network("lenet5", (32, 32, 3), 7), "the networks differ"),
        (classification_network("linear", (16, 16, 3), 7), "the networks differ|no weights left"),
        (
            classification_network("resnet20", (16, 16, 3), 7, width=0.25),
            "networks differ|no place",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            transfer(source, ours)
