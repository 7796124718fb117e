"""The networks by name, for people and for the configuration. Nothing heavy is imported here.

To add a network: write its backbone function in a file of this folder, describe it here, and name
its function in `build.BACKBONES`.
"""

from __future__ import annotations

from typing import NamedTuple


class Network(NamedTuple):
    """A network as it was published."""

    input_shape: tuple[int, int, int]
    """Height, width, channels of the published network."""
    classes: int
    """Classes of the published network."""
    paper: str
    hidden: tuple[int, ...] = ()
    """Units of the fully connected layers between the backbone and the logits."""


# Keras Applications whose variables are called the same whatever else a process has built, and the
# modules of keras.applications that hold them.
APPLICATIONS = {
    "VGG16": "vgg16",
    "VGG19": "vgg19",
    "MobileNet": "mobilenet",
    "MobileNetV2": "mobilenet_v2",
    "ResNet50": "resnet",
    "ResNet101": "resnet",
    "ResNet152": "resnet",
    "ResNet50V2": "resnet_v2",
    "ResNet101V2": "resnet_v2",
    "ResNet152V2": "resnet_v2",
    "DenseNet121": "densenet",
    "DenseNet169": "densenet",
    "DenseNet201": "densenet",
}

NETWORKS: dict[str, Network] = {
    "linear": Network((32, 32, 3), 10, "CS231n, Linear classification"),
    "two_layer": Network(
        (32, 32, 3), 10, "CS231n, Putting it together: minimal neural network case study"
    ),
    "lenet5": Network(
        (32, 32, 1),
        10,
        "LeCun et al. 1998, Gradient-based learning applied to document recognition",
        hidden=(84,),
    ),
    "resnet8": Network((32, 32, 3), 10, "He et al. 2015, Deep residual learning, section 4.2"),
    "resnet20": Network((32, 32, 3), 10, "He et al. 2015, Deep residual learning, section 4.2"),
    "resnet32": Network((32, 32, 3), 10, "He et al. 2015, Deep residual learning, section 4.2"),
    "fmp6_sqrt2": Network(
        (36, 36, 1), 10, "Graham 2014, Fractional max-pooling, section 4, (32nC2-FMP√2)6-C2-C1"
    ),
    "resnet18": Network((224, 224, 3), 1000, "He et al. 2015, Deep residual learning, table 1"),
    "resnet34": Network((224, 224, 3), 1000, "He et al. 2015, Deep residual learning, table 1"),
    "resnet50": Network((224, 224, 3), 1000, "He et al. 2015, Deep residual learning, table 1"),
    "mobilenet_v2": Network((224, 224, 3), 1000, "Sandler et al. 2018, MobileNetV2, table 2"),
    "vgg16": Network(
        (224, 224, 3), 1000, "Simonyan and Zisserman 2014, table 1, D, without fc6 and fc7"
    ),
    "ssd_vgg16": Network((224, 224, 3), 1000, "Liu et al. 2015, SSD, section 3.1"),
    "fcn_vgg16": Network(
        (224, 224, 3), 1000, "Long et al. 2015, Fully convolutional networks, section 4.1"
    ),
    "unet": Network(
        (572, 572, 1), 2, "Ronneberger et al. 2015, U-Net, figure 1, its contracting path"
    ),
    "extraction": Network(
        (224, 224, 3), 1000, "Redmon et al. 2015, You only look once, section 2.2"
    ),
    "darknet19": Network((224, 224, 3), 1000, "Redmon and Farhadi 2016, YOLO9000, table 6"),
    "darknet53": Network((256, 256, 3), 1000, "Redmon and Farhadi 2018, YOLOv3, table 1"),
}


def application_of(backbone: str) -> str | None:
    """The Keras Application that "keras/…" names; None for a network of ours."""
    return backbone.removeprefix("keras/") if backbone.startswith("keras/") else None
