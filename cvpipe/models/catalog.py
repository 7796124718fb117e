"""Catalog of the networks. TensorFlow is not imported here.

To add a network: write its backbone function in a file of this folder, describe it here, and add
the function to `backbones.BACKBONES`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Conventions = Literal["papers", "torch", "tensorflow", "model_garden"]
"""Source of the details that papers leave open: the paper's authors, or a library."""
MODEL_GARDEN_ACTIVATIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "swish": "silu",
    "silu": "silu",
    "hard_swish": "hard_silu",
    "gelu": "gelu",
    "elu": "elu",
    "selu": "selu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
}
"""Activations by their names in Model Garden."""


class FullyConnected(NamedTuple):
    """Two fully connected layers between the backbone and the logits of a classifier."""

    size: int
    """Height and width of the first layer's input map in the published network."""
    units: tuple[int, int] = (4096, 4096)
    first: int = 6
    """Number of the first layer in the paper, such as 6 for fc6."""


class Network(NamedTuple):
    """A network as it was published."""

    input_shape: tuple[int, int, int]
    """Height, width, channels of the published network."""
    classes: int
    """Classes of the published network."""
    paper: str
    hidden: tuple[int, ...] = ()
    """Units of the fully connected layers after the averaging and before the logits."""
    hidden_activation: str = "tanh"
    """Keras activation of the hidden layers."""
    fully_connected: FullyConnected | None = None
    """Fully connected layers before the averaging."""
    class_maps: bool = False
    """True if the logits are averages of a convolution's maps, one per class."""
    draws: bool = False
    """True if the backbone has layers that drop values at random in training."""
    residual: bool = False
    """True if the backbone has residual branches, which `model.stochastic_depth` skips."""
    activated: bool = True
    """True if `model.activation` changes the backbone's activations."""

    @property
    def random(self) -> bool:
        """Return True if the network always has dropout, regardless of the configuration."""
        return self.draws or self.fully_connected is not None


# Keras Applications with variable names that don't depend on earlier networks in the process, and
# their modules in keras.applications.
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

# Networks with weights in a Python package (`weights/packages.py`).
PACKAGED = (
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "vgg16",
    "ssd_vgg16",
    "fcn_vgg16",
)

LITE = "Tan and Le 2019, EfficientNet, table 1, as EfficientNet-Lite (Google 2020)"

NETWORKS: dict[str, Network] = {
    "linear": Network((32, 32, 3), 10, "CS231n, Linear classification", activated=False),
    "two_layer": Network(
        (32, 32, 3),
        10,
        "CS231n, Putting it together: minimal neural network case study",
        activated=False,
    ),
    "lenet5": Network(
        (32, 32, 1),
        10,
        "LeCun et al. 1998, Gradient-based learning applied to document recognition",
        hidden=(84,),
    ),
    "resnet8": Network(
        (32, 32, 3), 10, "He et al. 2015, Deep residual learning, section 4.2", residual=True
    ),
    "resnet20": Network(
        (32, 32, 3), 10, "He et al. 2015, Deep residual learning, section 4.2", residual=True
    ),
    "resnet32": Network(
        (32, 32, 3), 10, "He et al. 2015, Deep residual learning, section 4.2", residual=True
    ),
    "fmp6_sqrt2": Network(
        (36, 36, 1),
        10,
        "Graham 2014, Fractional max-pooling, section 4, (32nC2-FMP√2)6-C2-C1",
        activated=False,
    ),
    "resnet18": Network(
        (224, 224, 3), 1000, "He et al. 2015, Deep residual learning, table 1", residual=True
    ),
    "resnet34": Network(
        (224, 224, 3), 1000, "He et al. 2015, Deep residual learning, table 1", residual=True
    ),
    "resnet50": Network(
        (224, 224, 3), 1000, "He et al. 2015, Deep residual learning, table 1", residual=True
    ),
    "mobilenet_v2": Network(
        (224, 224, 3), 1000, "Sandler et al. 2018, MobileNetV2, table 2", residual=True
    ),
    "efficientnet_lite0": Network((224, 224, 3), 1000, LITE, residual=True),
    "efficientnet_lite1": Network((240, 240, 3), 1000, LITE, residual=True),
    "efficientnet_lite2": Network((260, 260, 3), 1000, LITE, residual=True),
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
        (224, 224, 3), 1000, "Redmon et al. 2015, You only look once, section 2.2", activated=False
    ),
    "darknet19": Network(
        (224, 224, 3), 1000, "Redmon and Farhadi 2016, YOLO9000, table 6", activated=False
    ),
    "darknet53": Network(
        (256, 256, 3),
        1000,
        "Redmon and Farhadi 2018, YOLOv3, table 1",
        residual=True,
        activated=False,
    ),
}


IMAGENET, SMALL, INCEPTION = (224, 224, 3), (32, 32, 3), (299, 299, 3)
LENET = "LeCun et al. 1998, Gradient-based learning applied to document recognition"
VGG = "Simonyan and Zisserman 2014, table 1"
RESNET = "He et al. 2015, Deep residual learning"
PRERESNET = "He et al. 2016, Identity mappings in deep residual networks"
WIDE = "Zagoruyko and Komodakis 2016, Wide residual networks, section 3"
RESNEXT = "Xie et al. 2017, Aggregated residual transformations, table 1"
SE = "Hu et al. 2018, Squeeze-and-excitation networks, table 1"
DENSENET = "Huang et al. 2017, Densely connected convolutional networks"
OVERFEAT = "Sermanet et al. 2014, OverFeat"
SQUEEZENET = "Iandola et al. 2016, SqueezeNet"
NASNET = "Zoph et al. 2018, Learning transferable architectures, figures 2 and 4"
EFFICIENTNET = "Tan and Le 2019, EfficientNet, table 1"

NETWORKS.update(
    lenet5_sparse=Network((32, 32, 1), 10, f"{LENET}, section II.B"),
    alexnet=Network(
        (227, 227, 3),
        1000,
        "Krizhevsky et al. 2012, ImageNet classification, figure 2, two towers",
        fully_connected=FullyConnected(6),
    ),
    alexnet_one_tower=Network(
        IMAGENET,
        1000,
        "Krizhevsky 2014, One weird trick, section 5",
        fully_connected=FullyConnected(6),
    ),
    zfnet=Network(
        IMAGENET,
        1000,
        "Zeiler and Fergus 2013, Visualizing networks, figure 3",
        fully_connected=FullyConnected(6),
    ),
    overfeat_fast=Network(
        (231, 231, 3), 1000, f"{OVERFEAT}, table 1", fully_connected=FullyConnected(6, (3072, 4096))
    ),
    overfeat_accurate=Network(
        (221, 221, 3), 1000, f"{OVERFEAT}, table 3", fully_connected=FullyConnected(5, first=7)
    ),
    vgg11_fc=Network(IMAGENET, 1000, f"{VGG}, A", fully_connected=FullyConnected(7)),
    vgg13_fc=Network(IMAGENET, 1000, f"{VGG}, B", fully_connected=FullyConnected(7)),
    vgg16_fc=Network(IMAGENET, 1000, f"{VGG}, D", fully_connected=FullyConnected(7)),
    vgg19_fc=Network(IMAGENET, 1000, f"{VGG}, E", fully_connected=FullyConnected(7)),
    nin_imagenet=Network(
        IMAGENET,
        1000,
        "Lin et al. 2013, Network in network, authors' code",
        class_maps=True,
        draws=True,
    ),
    nin_cifar=Network(
        SMALL, 10, "Lin et al. 2013, Network in network, figure 2", class_maps=True, draws=True
    ),
    googlenet=Network(IMAGENET, 1000, "Szegedy et al. 2014, Going deeper, table 1"),
    inception_v2=Network(IMAGENET, 1000, "Ioffe and Szegedy 2015, Batch normalization, figure 5"),
    inception_v3=Network(
        INCEPTION, 1000, "Szegedy et al. 2015, Rethinking the Inception architecture, table 1"
    ),
    inception_v4=Network(INCEPTION, 1000, "Szegedy et al. 2016, Inception-v4, figure 9"),
    inception_resnet_v2=Network(
        INCEPTION, 1000, "Szegedy et al. 2016, Inception-v4, figure 15", residual=True
    ),
    resnet44=Network(SMALL, 10, f"{RESNET}, section 4.2", residual=True),
    resnet56=Network(SMALL, 10, f"{RESNET}, section 4.2", residual=True),
    resnet110=Network(SMALL, 10, f"{RESNET}, section 4.2", residual=True),
    resnet1202=Network(SMALL, 10, f"{RESNET}, section 4.2", residual=True),
    resnet110_stochastic_depth=Network(
        SMALL,
        10,
        "Huang et al. 2016, Deep networks with stochastic depth, section 4",
        draws=True,
        residual=True,
    ),
    plain20=Network(SMALL, 10, f"{RESNET}, section 4.2"),
    plain56=Network(SMALL, 10, f"{RESNET}, section 4.2"),
    plain18=Network(IMAGENET, 1000, f"{RESNET}, table 1"),
    plain34=Network(IMAGENET, 1000, f"{RESNET}, table 1"),
    resnet101=Network(IMAGENET, 1000, f"{RESNET}, table 1", residual=True),
    resnet152=Network(IMAGENET, 1000, f"{RESNET}, table 1", residual=True),
    preresnet110=Network(SMALL, 10, f"{PRERESNET}, table 2", residual=True),
    preresnet164=Network(SMALL, 10, f"{PRERESNET}, table 3", residual=True),
    preresnet50=Network(IMAGENET, 1000, f"{PRERESNET}, section 5", residual=True),
    preresnet101=Network(IMAGENET, 1000, f"{PRERESNET}, section 5", residual=True),
    preresnet152=Network(IMAGENET, 1000, f"{PRERESNET}, section 5", residual=True),
    wrn28_10=Network(SMALL, 10, f"{WIDE}, table 1", residual=True),
    wide_resnet50_2=Network(IMAGENET, 1000, f"{WIDE}, table 8", residual=True),
    resnext50_32x4d=Network(IMAGENET, 1000, RESNEXT, residual=True),
    resnext101_32x8d=Network(IMAGENET, 1000, RESNEXT, residual=True),
    se_resnet50=Network(IMAGENET, 1000, SE, residual=True),
    se_resnext50_32x4d=Network(IMAGENET, 1000, SE, residual=True),
    densenet121=Network(IMAGENET, 1000, f"{DENSENET}, table 1"),
    densenet169=Network(IMAGENET, 1000, f"{DENSENET}, table 1"),
    densenet201=Network(IMAGENET, 1000, f"{DENSENET}, table 1"),
    densenet40_12=Network(SMALL, 10, f"{DENSENET}, table 2"),
    densenet_bc100_12=Network(SMALL, 10, f"{DENSENET}, table 2"),
    fractalnet20=Network(SMALL, 10, "Larsson et al. 2017, FractalNet, section 4", draws=True),
    squeezenet1_0=Network(IMAGENET, 1000, f"{SQUEEZENET}, table 1", class_maps=True),
    squeezenet1_0_bypass=Network(IMAGENET, 1000, f"{SQUEEZENET}, figure 2", class_maps=True),
    squeezenet1_1=Network(IMAGENET, 1000, f"{SQUEEZENET}, authors' code", class_maps=True),
    nasnet_mobile=Network(IMAGENET, 1000, NASNET),
    nasnet_large=Network((331, 331, 3), 1000, NASNET),
    cells=Network(SMALL, 10, "Zoph et al. 2018, Learning transferable architectures, section 3"),
    mobilenet_v1=Network(IMAGENET, 1000, "Howard et al. 2017, MobileNets, table 1"),
    mobilenet_v3_small=Network(
        IMAGENET,
        1000,
        "Howard et al. 2019, Searching for MobileNetV3, table 2",
        (1024,),
        "hard_silu",
        residual=True,
    ),
    mobilenet_v3_large=Network(
        IMAGENET,
        1000,
        "Howard et al. 2019, Searching for MobileNetV3, table 1",
        (1280,),
        "hard_silu",
        residual=True,
    ),
    shufflenet_g3=Network(IMAGENET, 1000, "Zhang et al. 2018, ShuffleNet, table 1"),
    xception=Network(INCEPTION, 1000, "Chollet 2017, Xception, figure 5"),
    efficientnet_lite3=Network((280, 280, 3), 1000, LITE, residual=True),
    efficientnet_lite4=Network((300, 300, 3), 1000, LITE, residual=True),
    efficientnet_b0=Network(IMAGENET, 1000, EFFICIENTNET, residual=True),
    efficientnet_b1=Network((240, 240, 3), 1000, EFFICIENTNET, residual=True),
    efficientnet_b2=Network((260, 260, 3), 1000, EFFICIENTNET, residual=True),
    efficientnet_b3=Network((300, 300, 3), 1000, EFFICIENTNET, residual=True),
    efficientnet_b4=Network((380, 380, 3), 1000, EFFICIENTNET, residual=True),
    efficientnet_b5=Network((456, 456, 3), 1000, EFFICIENTNET, residual=True),
    efficientnet_b6=Network((528, 528, 3), 1000, EFFICIENTNET, residual=True),
    efficientnet_b7=Network((600, 600, 3), 1000, EFFICIENTNET, residual=True),
)


def application_of(backbone: str) -> str | None:
    """Return the name of a Keras Application, without "keras/"; None for cvpipe's own networks."""
    return backbone.removeprefix("keras/") if backbone.startswith("keras/") else None
