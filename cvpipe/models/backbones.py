"""The backbone function of each network in the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import keras

from cvpipe.models import (
    alexnet,
    cells,
    darknet,
    densenet,
    efficientnet,
    efficientnet_lite,
    fractalnet,
    fractional,
    googlenet,
    inception_v3,
    inception_v4,
    lenet,
    lenet_sparse,
    mobilenet,
    mobilenet_v3,
    nasnet,
    nin,
    preresnet,
    resnet,
    resnet_variants,
    separable,
    shallow,
    shufflenet,
    squeezenet,
    unet,
    vgg,
)
from cvpipe.models.blocks import Style


class Backbone(Protocol):
    """Function from an image, [B, H, W, C], to {stride: feature map}: the deepest map of each
    stride, in ascending order of strides.
    """

    def __call__(
        self, image: keras.KerasTensor, *, width: float, style: Style
    ) -> dict[int, keras.KerasTensor]:
        """Return the feature maps of `image` by stride."""
        ...


class Auxiliary(NamedTuple):
    """The auxiliary classifiers of a network."""

    inputs: tuple[str, ...]
    """Names of the layers whose outputs are the inputs of the classifiers."""
    layers: Any
    """Layers before the logits: (x [B, H, W, C], *, width, style, name) -> [B, h, w, C']."""


_DEEP = (3, 4, 23, 3)
_DEEPEST = (3, 8, 36, 3)

BACKBONES: Mapping[str, Backbone] = {
    "linear": shallow.linear,
    "two_layer": shallow.two_layer,
    "lenet5": lenet.lenet5,
    "lenet5_sparse": lenet_sparse.lenet5_sparse,
    "alexnet": partial(alexnet.chain, layers=alexnet.TWO_TOWERS),
    "alexnet_one_tower": partial(alexnet.chain, layers=alexnet.ONE_TOWER),
    "zfnet": partial(alexnet.chain, layers=alexnet.ZFNET, ceil=True),
    "overfeat_fast": partial(alexnet.chain, layers=alexnet.OVERFEAT_FAST),
    "overfeat_accurate": partial(alexnet.chain, layers=alexnet.OVERFEAT_ACCURATE),
    "vgg11_fc": partial(vgg.vgg, counts=vgg.COUNTS["vgg11"]),
    "vgg13_fc": partial(vgg.vgg, counts=vgg.COUNTS["vgg13"]),
    "vgg16_fc": vgg.vgg16,
    "vgg19_fc": partial(vgg.vgg, counts=vgg.COUNTS["vgg19"]),
    "vgg16": vgg.vgg16,
    "ssd_vgg16": vgg.ssd_vgg16,
    "fcn_vgg16": vgg.fcn_vgg16,
    "nin_imagenet": nin.nin_imagenet,
    "nin_cifar": nin.nin_cifar,
    "googlenet": googlenet.googlenet,
    "inception_v2": googlenet.inception_v2,
    "inception_v3": inception_v3.inception_v3,
    "inception_v4": inception_v4.inception_v4,
    "inception_resnet_v2": inception_v4.inception_resnet_v2,
    "resnet8": resnet.resnet8,
    "resnet20": resnet.resnet20,
    "resnet32": resnet.resnet32,
    "resnet44": partial(resnet.small, blocks=7),
    "resnet56": partial(resnet.small, blocks=9),
    "resnet110": partial(resnet.small, blocks=18),
    "resnet1202": partial(resnet.small, blocks=200),
    "resnet110_stochastic_depth": resnet.stochastic_depth110,
    "plain20": partial(resnet.small, blocks=3, shortcut=None),
    "plain56": partial(resnet.small, blocks=9, shortcut=None),
    "plain18": partial(resnet.large, blocks=(2, 2, 2, 2), branch=resnet.basic, shortcut=None),
    "plain34": partial(resnet.large, blocks=(3, 4, 6, 3), branch=resnet.basic, shortcut=None),
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "resnet101": partial(resnet.large, blocks=_DEEP, branch=resnet.bottleneck),
    "resnet152": partial(resnet.large, blocks=_DEEPEST, branch=resnet.bottleneck),
    "preresnet110": partial(preresnet.small_preresnet, blocks=18),
    "preresnet164": partial(preresnet.small_preresnet, blocks=18, branch=preresnet.bottleneck),
    "preresnet50": partial(preresnet.preresnet, blocks=(3, 4, 6, 3)),
    "preresnet101": partial(preresnet.preresnet, blocks=_DEEP),
    "preresnet152": partial(preresnet.preresnet, blocks=_DEEPEST),
    "wrn28_10": partial(preresnet.small_preresnet, blocks=4, factor=10),
    "wide_resnet50_2": partial(
        resnet.large, blocks=(3, 4, 6, 3), branch=resnet_variants.wide_bottleneck
    ),
    "resnext50_32x4d": partial(
        resnet.large,
        blocks=(3, 4, 6, 3),
        branch=partial(resnet_variants.grouped_bottleneck, groups=32, base=4),
    ),
    "resnext101_32x8d": partial(
        resnet.large,
        blocks=_DEEP,
        branch=partial(resnet_variants.grouped_bottleneck, groups=32, base=8),
    ),
    "se_resnet50": partial(resnet.large, blocks=(3, 4, 6, 3), branch=resnet_variants.se_bottleneck),
    "se_resnext50_32x4d": partial(
        resnet.large,
        blocks=(3, 4, 6, 3),
        branch=partial(resnet_variants.se_grouped_bottleneck, groups=32, base=4),
    ),
    "densenet121": partial(densenet.densenet, blocks=(6, 12, 24, 16)),
    "densenet169": partial(densenet.densenet, blocks=(6, 12, 32, 32)),
    "densenet201": partial(densenet.densenet, blocks=(6, 12, 48, 32)),
    "densenet40_12": partial(densenet.small_densenet, layers=12, growth=12, compressed=False),
    "densenet_bc100_12": partial(densenet.small_densenet, layers=16, growth=12, compressed=True),
    "fractalnet20": fractalnet.fractalnet20,
    "fmp6_sqrt2": fractional.fmp6_sqrt2,
    "squeezenet1_0": squeezenet.squeezenet,
    "squeezenet1_0_bypass": partial(squeezenet.squeezenet, bypass=True),
    "squeezenet1_1": partial(squeezenet.squeezenet, stem=(64, 3), pools=(3, 5)),
    "nasnet_mobile": partial(nasnet.nasnet, filters=44, cells=4, stem=32, skips=False),
    "nasnet_large": partial(nasnet.nasnet, filters=168, cells=6, stem=96, skips=True),
    "cells": cells.cell_network,
    "mobilenet_v1": separable.mobilenet_v1,
    "mobilenet_v2": mobilenet.mobilenet_v2,
    "efficientnet_lite0": efficientnet_lite.efficientnet_lite0,
    "efficientnet_lite1": efficientnet_lite.efficientnet_lite1,
    "efficientnet_lite2": efficientnet_lite.efficientnet_lite2,
    "efficientnet_lite3": partial(
        efficientnet_lite.efficientnet_lite, size=efficientnet_lite.LITE3
    ),
    "efficientnet_lite4": partial(
        efficientnet_lite.efficientnet_lite, size=efficientnet_lite.LITE4
    ),
    "mobilenet_v3_small": partial(mobilenet_v3.mobilenet_v3, rows=mobilenet_v3.SMALL),
    "mobilenet_v3_large": partial(mobilenet_v3.mobilenet_v3, rows=mobilenet_v3.LARGE),
    "shufflenet_g3": partial(shufflenet.shufflenet, groups=3),
    "xception": separable.xception,
    **{
        name: partial(efficientnet.efficientnet, scale=scale)
        for name, scale in efficientnet.SCALES.items()
    },
    "unet": unet.unet,
    "extraction": darknet.extraction,
    "darknet19": darknet.darknet19,
    "darknet53": darknet.darknet53,
}

AUXILIARY: Mapping[str, Auxiliary] = {
    "googlenet": Auxiliary(googlenet.AUXILIARY, googlenet.auxiliary),
    "inception_v3": Auxiliary(inception_v3.AUXILIARY, inception_v3.auxiliary),
}
"""Auxiliary classifiers by the name of their network."""
