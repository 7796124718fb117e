"""Layer names of cvpipe's networks in other libraries: a file per family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from cvpipe.models import mobilenet_v3 as v3
from cvpipe.models.efficientnet import SCALES
from cvpipe.models.efficientnet_lite import LITE0, LITE1, LITE2, LITE3, LITE4
from cvpipe.models.vgg import COUNTS
from cvpipe.models.weights.names.densenet import densenet
from cvpipe.models.weights.names.efficientnet import efficientnet, efficientnet_lite
from cvpipe.models.weights.names.inception import inception_resnet_v2, inception_v3, inception_v4
from cvpipe.models.weights.names.layers import Table
from cvpipe.models.weights.names.mobilenet import mobilenet_v1, mobilenet_v2, mobilenet_v3
from cvpipe.models.weights.names.resnet import resnet
from cvpipe.models.weights.names.squeezenet import squeezenet
from cvpipe.models.weights.names.vgg import alexnet_one_tower, vgg, vgg16

TABLES: Mapping[str, Callable[[], tuple[Table, ...]]] = {
    "alexnet_one_tower": alexnet_one_tower,
    **{
        f"{name}_fc": partial(vgg, counts, fully_connected=True, logits=True)
        for name, counts in COUNTS.items()
    },
    "vgg16": vgg16,
    "ssd_vgg16": vgg16,
    "fcn_vgg16": partial(vgg16, fully_connected=True),
    "resnet18": partial(resnet, (2, 2, 2, 2), 2),
    "resnet34": partial(resnet, (3, 4, 6, 3), 2),
    "resnet50": partial(resnet, (3, 4, 6, 3)),
    "resnet101": partial(resnet, (3, 4, 23, 3)),
    "resnet152": partial(resnet, (3, 8, 36, 3)),
    "wide_resnet50_2": partial(resnet, (3, 4, 6, 3)),
    "resnext50_32x4d": partial(resnet, (3, 4, 6, 3)),
    "resnext101_32x8d": partial(resnet, (3, 4, 23, 3)),
    "se_resnet50": partial(resnet, (3, 4, 6, 3), gated=True),
    "se_resnext50_32x4d": partial(resnet, (3, 4, 6, 3), gated=True),
    "densenet121": partial(densenet, (6, 12, 24, 16)),
    "densenet169": partial(densenet, (6, 12, 32, 32)),
    "densenet201": partial(densenet, (6, 12, 48, 32)),
    "inception_v3": inception_v3,
    "inception_v4": inception_v4,
    "inception_resnet_v2": inception_resnet_v2,
    "squeezenet1_0": partial(squeezenet, (4, 8)),
    "squeezenet1_1": partial(squeezenet, (3, 5)),
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_small": partial(mobilenet_v3, v3.SMALL),
    "mobilenet_v3_large": partial(mobilenet_v3, v3.LARGE),
    "efficientnet_lite0": partial(efficientnet_lite, LITE0),
    "efficientnet_lite1": partial(efficientnet_lite, LITE1),
    "efficientnet_lite2": partial(efficientnet_lite, LITE2),
    "efficientnet_lite3": partial(efficientnet_lite, LITE3),
    "efficientnet_lite4": partial(efficientnet_lite, LITE4),
    **{name: partial(efficientnet, name) for name in SCALES},
}
"""Functions that return a network's tables, for the networks that other libraries also have."""

DIFFERENT: Mapping[str, str] = {
    "googlenet": "torchvision's has BatchNorms, no local norms, and 3×3 instead of 5×5 kernels",
    "xception": "timm's pads its poolings on both sides",
    "preresnet50": "timm's pads its first pooling with -∞, and has no biases",
    "preresnet101": "timm's pads its first pooling with -∞, and has no biases",
    "preresnet152": "timm's pads its first pooling with -∞, and has no biases",
}
"""Differences between a network here and one of the same name in another library."""


def tables_of(backbone: str) -> tuple[Table, ...]:
    """Return the tables of a network of the catalog; none if no other library has it."""
    return TABLES[backbone]() if backbone in TABLES else ()
