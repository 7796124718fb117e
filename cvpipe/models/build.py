"""From a name in the catalog to a Keras model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import keras

from cvpipe.config.model import Model
from cvpipe.config.prepare import Prepare
from cvpipe.errors import ConfigError
from cvpipe.models import (
    applications,
    darknet,
    fractional,
    lenet,
    mobilenet,
    resnet,
    shallow,
    unet,
    vgg,
)
from cvpipe.models.blocks import Style
from cvpipe.models.catalog import NETWORKS, Network, application_of
from cvpipe.models.heads import classifier
from cvpipe.models.initializers import Initializer
from cvpipe.models.normalize import Normalize
from cvpipe.models.norms import Norm


class Backbone(Protocol):
    """image [B, H, W, C] -> {stride: feature map}, strides increasing, for each the deepest map
    with that stride.
    """

    def __call__(
        self, image: keras.KerasTensor, *, width: float, style: Style
    ) -> dict[int, keras.KerasTensor]:
        """Return the feature maps of `image` by stride."""
        ...


BACKBONES: Mapping[str, Backbone] = {
    "linear": shallow.linear,
    "two_layer": shallow.two_layer,
    "lenet5": lenet.lenet5,
    "resnet8": resnet.resnet8,
    "resnet20": resnet.resnet20,
    "resnet32": resnet.resnet32,
    "fmp6_sqrt2": fractional.fmp6_sqrt2,
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "mobilenet_v2": mobilenet.mobilenet_v2,
    "vgg16": vgg.vgg16,
    "ssd_vgg16": vgg.ssd_vgg16,
    "fcn_vgg16": vgg.fcn_vgg16,
    "unet": unet.unet,
    "extraction": darknet.extraction,
    "darknet19": darknet.darknet19,
    "darknet53": darknet.darknet53,
}
"""The backbone function of each network in the catalog."""


def published(name: str) -> Network:
    """The catalog's entry for `name`.

    Raises:
        ConfigError: there is none.
    """
    if name not in NETWORKS:
        raise ConfigError(f"there is no network {name!r}: choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name]


def backbone(name: str) -> Backbone:
    """The backbone function of the network `name`.

    Raises:
        ConfigError: the catalog has no such network.
    """
    if application := application_of(name):
        return applications.backbone(application)
    published(name)
    return BACKBONES[name]


def make_style(config: Model, synchronized: bool) -> Style:
    """Return the layer settings that the configuration asks for. If `synchronized`, BatchNorm's
    statistics span all replicas.
    """
    norm = Norm(
        config.norm,
        momentum=config.batch_norm_momentum,
        synchronized=synchronized,
        groups=config.norm_groups,
    )
    return Style(
        norm, Initializer(config.initializer, config.initializer_value), config.stochastic_depth
    )


def network_input(
    input_shape: tuple[int, int, int], normalize: Prepare | None
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """A network's input, [B, H, W, C], and what its backbone sees of it: normalized, unless
    `normalize` is None.
    """
    image = keras.Input(input_shape, name="image")
    if normalize is None:
        return image, image
    return image, Normalize(normalize.normalize, input_shape, name="normalize")(image)


def backbone_features(
    backbone: Backbone,
    input_shape: tuple[int, int, int],
    *,
    width: float,
    style: Style,
    normalize: Prepare | None,
) -> tuple[keras.KerasTensor, dict[int, keras.KerasTensor]]:
    """A network's input, [B, H, W, C], and what its backbone makes of it; see `network_input` and
    `Backbone`.
    """
    image, normalized = network_input(input_shape, normalize)
    return image, backbone(normalized, width=width, style=style)


def classification_network(
    name: str,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    width: float = 1.0,
    dropout: float = 0.0,
    drop_connect: float = 0.0,
    bias: float = 0.0,
    style: Style = Style(),
    normalize: Prepare | None = None,
) -> keras.Model:
    """The network `name` as a classifier, with fresh weights.

    The same arguments give the same variable paths, whatever the process has built before.

    Args:
        name: a key of the catalog, or "keras/" and one of `APPLICATIONS`.
        input_shape: height, width, channels of a prepared image.
        classes: number of logits.
        width: multiplies the channels of the backbone.
        dropout: share of features dropped before the last layer in training.
        drop_connect: share of the last layer's weights dropped in training.
        bias: what the last layer's biases start out as.
        style: how the layers are made.
        normalize: how the first layer normalizes images in [0, 1]; None for no such layer.

    Returns:
        A functional model called `name`: float [B, H, W, C] -> {"logits": float32 [B, classes]}.

    Raises:
        ConfigError: the catalog has no such network, or the image is too small for it or for its
            norm.
    """
    image, features = backbone_features(
        backbone(name), input_shape, width=width, style=style, normalize=normalize
    )
    application = application_of(name)
    hidden = () if application else published(name).hidden
    logits = classifier(
        features,
        classes,
        dropout=dropout,
        drop_connect=drop_connect,
        bias=bias,
        style=style,
        hidden=hidden,
    )
    return keras.Model(image, {"logits": logits}, name=application or name)
