"""Published sizes of the catalog's networks, for comparison.

Sources: T torchvision's model metadata, K Keras Applications, M timm's table, C counted from the
paper's layer table, P the paper's own rounded figure.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Published(NamedTuple):
    """Figures of the published network, for the input size and classes of the catalog."""

    parameters: float | None = None
    """Number of parameters; rounded if the source is M or P."""
    counted: Literal["trainable", "all"] = "trainable"
    """Variables counted as parameters; "all" includes BatchNorm's moving statistics."""
    gmacs: float | None = None
    """Billions of multiply-adds, as rounded by the source."""
    source: str = ""
    deviation: str = ""
    """Reason why cvpipe's network differs; empty if it doesn't."""


NO_SCALE = "the published BatchNorms have no scale, cvpipe's do"
EARLIER = (
    "the published strides are in the 1×1 convolutions; cvpipe's are in the 3×3 convolutions, as"
    " in torchvision's ResNets"
)
LITE = "the authors' table has 3 to 6 % more multiply-adds than its convolutions and last layer"

PUBLISHED: dict[str, Published] = {
    "lenet5": Published(61_706, source="C"),
    "lenet5_sparse": Published(
        60_000,
        source="C",
        deviation="the output layer is trained (850 parameters), not fixed bitmaps",
    ),
    "alexnet": Published(60_965_224, source="C"),
    "alexnet_one_tower": Published(61_100_840, gmacs=0.714, source="T"),
    "zfnet": Published(62_357_608, source="C"),
    "overfeat_fast": Published(145e6, gmacs=2.81, source="P"),
    "overfeat_accurate": Published(144e6, gmacs=5.369, source="P"),
    "vgg11_fc": Published(132_863_336, gmacs=7.609, source="T"),
    "vgg13_fc": Published(133_047_848, gmacs=11.308, source="T"),
    "vgg16_fc": Published(138_357_544, gmacs=15.47, source="T, K"),
    "vgg19_fc": Published(143_667_240, gmacs=19.632, source="T, K"),
    "nin_imagenet": Published(7_595_176, source="C"),
    "nin_cifar": Published(966_986, source="C"),
    "googlenet": Published(
        6_998_552,
        gmacs=1.5,
        source="C, P",
        deviation="the paper gives about 1.5 billion multiply-adds; its table adds up to 1.583",
    ),
    "inception_v2": Published(
        13.6e6, source="P", deviation="the paper states 13.6 million; its table adds up to 11.3"
    ),
    "inception_v3": Published(23_834_568, gmacs=5.713, source="T"),
    "inception_v4": Published(42.68e6, gmacs=12.28, source="M"),
    "inception_resnet_v2": Published(
        55_873_736, counted="all", gmacs=13.18, source="K, M", deviation=NO_SCALE
    ),
    "resnet20": Published(0.27e6, source="P"),
    "resnet32": Published(0.46e6, source="P"),
    "resnet44": Published(0.66e6, source="P"),
    "resnet56": Published(0.85e6, source="P"),
    "resnet110": Published(1.7e6, source="P"),
    "resnet1202": Published(19.4e6, source="P"),
    "resnet110_stochastic_depth": Published(1.7e6, source="P"),
    "plain20": Published(0.27e6, source="P"),
    "plain56": Published(0.85e6, source="P"),
    "plain18": Published(None, gmacs=1.8, source="P"),
    "plain34": Published(None, gmacs=3.6, source="P"),
    "resnet18": Published(11_689_512, gmacs=1.814, source="T"),
    "resnet34": Published(21_797_672, gmacs=3.664, source="T"),
    "resnet50": Published(25_557_032, gmacs=4.089, source="T"),
    "resnet101": Published(44_549_160, gmacs=7.801, source="T"),
    "resnet152": Published(60_192_808, gmacs=11.514, source="T"),
    "preresnet110": Published(1.7e6, source="P"),
    "preresnet164": Published(1.7e6, source="P"),
    "preresnet50": Published(25_613_800, counted="all", source="K"),
    "preresnet101": Published(44_675_560, counted="all", source="K"),
    "preresnet152": Published(60_380_648, counted="all", source="K"),
    "wrn28_10": Published(36_479_194, gmacs=5.2, source="C, P"),
    "wide_resnet50_2": Published(68_883_240, gmacs=11.398, source="T"),
    "resnext50_32x4d": Published(25_028_904, gmacs=4.23, source="T"),
    "resnext101_32x8d": Published(88_791_336, gmacs=16.414, source="T"),
    "se_resnet50": Published(28_088_024, gmacs=3.87, source="C, P", deviation=EARLIER),
    "se_resnext50_32x4d": Published(27.56e6, gmacs=4.25, source="M, P"),
    "densenet121": Published(7_978_856, gmacs=2.834, source="T"),
    "densenet169": Published(14_149_480, gmacs=3.36, source="T"),
    "densenet201": Published(20_013_928, gmacs=4.291, source="T"),
    "densenet40_12": Published(1.0e6, source="P"),
    "densenet_bc100_12": Published(0.8e6, source="P"),
    "fractalnet20": Published(
        38.6e6,
        source="P",
        deviation="the paper's channels add up to 33,724,618, and 33,734,922 with biases",
    ),
    "squeezenet1_0": Published(1_248_424, gmacs=0.819, source="T"),
    "squeezenet1_0_bypass": Published(1_248_424, gmacs=0.819, source="T"),
    "squeezenet1_1": Published(1_235_496, gmacs=0.349, source="T"),
    "nasnet_mobile": Published(5_326_716, counted="all", gmacs=0.564, source="K, P"),
    "nasnet_large": Published(88_949_818, counted="all", gmacs=23.8, source="K, P"),
    "mobilenet_v1": Published(4_253_864, counted="all", gmacs=0.569, source="K, P"),
    "mobilenet_v2": Published(3_538_984, counted="all", gmacs=0.301, source="K, T"),
    "mobilenet_v3_small": Published(2_542_856, gmacs=0.057, source="T"),
    "mobilenet_v3_large": Published(5_483_032, gmacs=0.217, source="T"),
    "shufflenet_g3": Published(None, gmacs=0.137, source="P"),
    "xception": Published(22_910_480, counted="all", gmacs=8.4, source="K, M"),
    "efficientnet_lite0": Published(4.7e6, gmacs=0.407, source="P", deviation=LITE),
    "efficientnet_lite1": Published(5.4e6, gmacs=0.631, source="P", deviation=LITE),
    "efficientnet_lite2": Published(6.1e6, gmacs=0.899, source="P", deviation=LITE),
    "efficientnet_lite3": Published(8.2e6, gmacs=1.44, source="P", deviation=LITE),
    "efficientnet_lite4": Published(13.0e6, gmacs=2.64, source="P", deviation=LITE),
    "darknet19": Published(
        20_842_376,
        gmacs=2.79,
        source="C, P",
        deviation="the paper gives 5.58 billion operations; its table adds up to 5.48",
    ),
    "darknet53": Published(41_609_928, gmacs=9.35, source="C, P"),
    "efficientnet_b0": Published(5_288_548, gmacs=0.386, source="T"),
    "efficientnet_b1": Published(7_794_184, gmacs=0.687, source="T"),
    "efficientnet_b2": Published(9_109_994, gmacs=1.0, source="T, P"),
    "efficientnet_b3": Published(12_233_232, gmacs=1.827, source="T"),
    "efficientnet_b4": Published(19_341_616, gmacs=4.394, source="T"),
    "efficientnet_b5": Published(30_389_784, gmacs=10.266, source="T"),
    "efficientnet_b6": Published(43_040_704, gmacs=19.068, source="T"),
    "efficientnet_b7": Published(66_347_960, gmacs=37.746, source="T"),
}
