"""The page docs/canon.md: every network beside its published figures."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from conventions import conventions
from lines import table
from results import RESULTS

HEAD = """# Networks compared with their papers

Written by `python docs/generate` from `cvpipe models --json`; not edited by hand.

`cvpipe models NAME` prints the layers of a network, `cvpipe models --pipeline FILE` those of a
pipeline's networks, including heads; `--draw FILE` draws them. `cvpipe models compare NAME NAME`
also measures latency.

Figures are for the published input size and number of classes. "Parameters" are trainable; "all"
adds BatchNorm's moving statistics. Multiply-adds include convolutions and fully connected layers.
Activations are the image and the outputs of convolutions, fully connected layers, poolings,
additions and concatenations, for one image in float32; norms and activation functions count as in
place. "Sees" is the receptive field of the backbone's last map.

Published figures in bold agree in all digits, or within 1 % if the source is rounded.
Sources: T torchvision, K Keras Applications, M timm, C counted from the paper's table, P the paper.
"""
CONVENTIONS = """
Parameters of the same networks under other conventions:

"""
TAIL = """
The slide of VGG16 in CS231n's lectures lists the same rows, which add up to 15.2 million values and
61 MB; its stated sum is 24 million and 96 MB. The slide of the inception module with bottlenecks
states 358 million multiply-adds; its rows add up to 271 million, or to 358 million if the 3×3
convolution is counted twice.
"""
BACKBONES = """
## Backbones of detectors and segmenters

SSD needs maps at the strides 8 and 16, FCN-8s also at 32, whose sizes are those of the image
divided by the stride, rounded up; both add coarser maps than a network has. The table has a network
of each family and its maps of that size, for an image of 128×128. Networks whose first layers don't
pad have none; those for small images have no coarse ones.

"""
SCORES = """
## Twelve families on Fashion-MNIST

Each network sees the same 6,000 images twice, in batches of 64, with Adam and a learning rate of
0.002 that falls along a cosine; the score is that on all 10,000 test images. Nothing is tuned to a
network: the table compares what a small budget buys, not what each can reach. CPU time includes
compilation and evaluation. FractalNet, which drops paths and features, hasn't begun to learn after
so few steps. `python benchmarks/canon.py` repeats it.
"""
DEPTH = """
## Depth with and without shortcuts

The networks of He et al. 2015, section 4.2, with half the channels, on the same images of 16×16
pixels, twice, with SGD. Without shortcuts the deeper network has a much higher loss on its own
training images, the degradation of the paper's figure 1, and 16 points less accuracy. With them it
has 3 points less: in so short a training it hasn't caught up.

![Training losses of plain and residual networks of 20 and 56 layers](canon/degradation.png)
"""
STARTS = """
## Activations before training

Ten fully connected layers of 500 units, for 1,000 random inputs of variance 1, as in CS231n's
lecture on initialization. With a standard deviation of 0.01, activations vanish layer by layer;
with 1, tanh saturates. Xavier's keeps tanh alive; ReLU, which drops half of the power in each
layer, needs He's. Batch norm makes small weights harmless. `python docs/generate --pictures` draws
it again; `cvpipe train --sanity` measures the layers of a pipeline's own network.

![Histograms of the activations of ten layers for eight initializations](canon/activations.png)
"""
FAMILIES = {
    "LeNet-5": "lenet5",
    "AlexNet": "alexnet",
    "ZFNet": "zfnet",
    "OverFeat": "overfeat_fast",
    "VGG": "vgg16",
    "VGG, SSD's": "ssd_vgg16",
    "VGG, FCN's": "fcn_vgg16",
    "NiN": "nin_imagenet",
    "GoogLeNet": "googlenet",
    "Inception-v2": "inception_v2",
    "Inception-v3": "inception_v3",
    "Inception-v4": "inception_v4",
    "Inception-ResNet-v2": "inception_resnet_v2",
    "ResNet, basic blocks": "resnet18",
    "ResNet, bottlenecks": "resnet50",
    "ResNet of CIFAR": "resnet20",
    "plain": "plain18",
    "pre-activation ResNet": "preresnet50",
    "Wide ResNet": "wide_resnet50_2",
    "ResNeXt": "resnext50_32x4d",
    "SE-ResNet": "se_resnet50",
    "DenseNet": "densenet121",
    "FractalNet": "fractalnet20",
    "SqueezeNet": "squeezenet1_1",
    "NASNet-A": "nasnet_mobile",
    "MobileNetV1": "mobilenet_v1",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3": "mobilenet_v3_small",
    "ShuffleNet": "shufflenet_g3",
    "Xception": "xception",
    "EfficientNet": "efficientnet_b0",
    "EfficientNet-Lite": "efficientnet_lite0",
    "U-Net's path": "unet",
    "YOLO's Extraction": "extraction",
    "Darknet-19": "darknet19",
    "Darknet-53": "darknet53",
}
"""A network of each family."""
SIDE = 128
"""Pixels of an image's side in the table of backbones."""


def canon() -> str:
    """Return the page, with every network built anew: about a minute."""
    from cvpipe.models.catalog import NETWORKS
    from cvpipe.models.describe import describe

    parts = [page([describe(name) for name in NETWORKS]), CONVENTIONS, conventions(), TAIL]
    parts += [BACKBONES, backbones(), SCORES]
    parts += [_block("canon-scores"), DEPTH, _block("canon-depth"), STARTS]
    return "".join(parts)


def page(networks: Sequence[Mapping[str, Any]]) -> str:
    """Return the page, from the list that `cvpipe models --json` prints."""
    head = ("Network", "Parameters", "all", "Published", "M mult-adds", "Published")
    head += ("Activations MB", "Input", "Sees", "Paper")
    deviations = [
        textwrap.fill(
            f"- `{network['name']}`: {network['published']['deviation']}.",
            100,
            subsequent_indent="  ",
            break_on_hyphens=False,
        )
        for network in networks
        if network["published"] and network["published"]["deviation"]
    ]
    rows = table(head, [_cells(network) for network in networks])
    named = "\n".join(deviations)
    return f"{HEAD}\n{rows}\n## Deviations\n\n{named}\n"


def backbones() -> str:
    """Return the table of families that detectors and segmenters can stand on."""
    rows = []
    for title, name in FAMILIES.items():
        strides = fitting_strides(name)
        serves = "yes" if {8, 16} <= set(strides) else "–"
        rows.append((title, f"`{name}`", ", ".join(map(str, strides)) or "–", serves))
    return table(("Family", "Network", "Maps at strides", "SSD, FCN-8s"), rows)


def fitting_strides(name: str) -> list[int]:
    """Return the strides of a backbone's maps whose sizes are the image's divided by the stride."""
    import keras

    from cvpipe.models.abstract import without_weights
    from cvpipe.models.blocks import Style
    from cvpipe.models.build import backbone, published

    channels = published(name).input_shape[-1]
    with without_weights():
        image = keras.Input((SIDE, SIDE, channels))
        maps = backbone(name)(image, width=1.0, style=Style())
    return [stride for stride, x in maps.items() if set(x.shape[1:3]) == {-(-SIDE // stride)}]


def _block(name: str) -> str:
    """Return a generated part as `blocks.filled` writes it."""
    made = RESULTS[name]().strip()
    return f"\n<!-- begin {name} -->\n\n{made}\n\n<!-- end {name} -->\n"


def _cells(network: Mapping[str, Any]) -> list[str]:
    field = network["receptive_field"]
    return [
        f"`{network['name']}`",
        f"{network['trainable_parameters']:,}",
        f"{network['parameters']:,}",
        *_published(network),
        f"{network['activation_bytes'] / 1e6:.1f}",
        _sides(network["input_shape"]),
        _sides(field) if field else "all",
        network["paper"],
    ]


def _published(network: Mapping[str, Any]) -> list[str]:
    """Cells from the published parameters to the published multiply-adds."""
    macs, known = f"{network['macs'] / 1e6:,.1f}", network["published"]
    if known is None:
        return ["–", macs, "–"]
    mark = "" if known["deviation"] else "**"
    counted = " all" if known["counted"] == "all" else ""
    cells = ["–", macs, "–"]
    if known["parameters"] is not None:
        cells[0] = f"{mark}{known['parameters']:,.0f}{mark}{counted} ({known['source']})"
    if known["gmacs"] is not None:
        cells[2] = f"{mark}{1000 * known['gmacs']:,.0f}{mark} ({known['source']})"
    return cells


def _sides(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))
