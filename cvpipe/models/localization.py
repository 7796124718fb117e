"""Construction of localization networks from a configuration."""

from __future__ import annotations

import keras

from cvpipe.config import Localization
from cvpipe.models.blocks import Style
from cvpipe.models.build import backbone, backbone_features, published
from cvpipe.models.catalog import application_of
from cvpipe.models.heads import classifier


def localization_network(config: Localization, num_classes: int, style: Style) -> keras.Model:
    """Build the network with initial weights: float32 [B, H, W, C] to "logits" float32 [B, K] and
    "box" float32 [B, 4] in 0…1.

    The classifier is that of `classification_network`, so each network can start from the weights
    of the other. The box is predicted from the same feature map without averaging, which would lose
    the position of the object.

    Raises:
        ConfigError: the image is too small for the backbone, or for its norm.
    """
    model, prepare = config.model, config.prepare
    image, features = backbone_features(
        backbone(model.backbone, model.cells),
        (*prepare.size, prepare.channels),
        width=model.width,
        style=style,
        normalize=None if prepare.normalize == "given" else prepare,
    )
    application = application_of(model.backbone)
    logits = classifier(
        features,
        num_classes,
        dropout=model.dropout,
        drop_connect=0.0,
        bias=0.0,
        style=style,
        network=None if application else published(model.backbone),
        width=model.width,
    )
    outputs = {"logits": logits, "box": _box(features[max(features)])}
    return keras.Model(image, outputs, name=application or model.backbone)


def _box(features: keras.KerasTensor) -> keras.KerasTensor:
    """Return [cy, cx, height, width] as fractions of the network's input.

    A sigmoid keeps the size positive. The kernel starts at zero, so the first prediction is the
    center of the image, which overlaps with most objects; without overlap, the IoU loss has no
    gradient. Float32 under every dtype policy.
    """
    places = keras.layers.Flatten(name="head_places")(features)
    return keras.layers.Dense(
        4, activation="sigmoid", kernel_initializer="zeros", dtype="float32", name="head_box"
    )(places)
