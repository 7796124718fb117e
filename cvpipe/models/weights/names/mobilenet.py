"""MobileNetV1 of timm, MobileNetV2 and V3 of torchvision and timm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cvpipe.models.mobilenet import BOTTLENECKS
from cvpipe.models.mobilenet_v3 import Row
from cvpipe.models.separable import MOBILENET
from cvpipe.models.weights.names.layers import SLIM, Layer, Table, gates, normed


def mobilenet_v1() -> tuple[Table, ...]:
    """Return the table of timm's mobilenetv1_100."""
    layers = [*normed("stem", "conv_stem", "bn1"), Layer("logits", "classifier", "dense")]
    for stage, blocks in enumerate(MOBILENET):
        for index in range(len(blocks)):
            ours, theirs = f"stage{stage + 1}_block{index + 1}", f"blocks.{stage}.{index}"
            names = (f"{theirs}.conv_dw", f"{theirs}.bn1")
            layers += normed(f"{ours}_depthwise", *names, "depthwise")
            layers += normed(f"{ours}_point", f"{theirs}.conv_pw", f"{theirs}.bn2")
    return (Table("timm", layers),)


def mobilenet_v2() -> tuple[Table, ...]:
    """Return the tables of torchvision's mobilenet_v2 and timm's mobilenetv2_100."""
    torchvision = [
        *normed("stem", "features.0.0", "features.0.1"),
        *normed("last", "features.18.0", "features.18.1"),
        Layer("logits", "classifier.1", "dense"),
    ]
    timm = [
        *normed("stem", "conv_stem", "bn1"),
        *normed("last", "conv_head", "bn2"),
        Layer("logits", "classifier", "dense"),
    ]
    feature = 1
    for row, (expansion, _, count, _) in enumerate(BOTTLENECKS):
        for index in range(count):
            ours = f"stage{row + 1}_block{index + 1}"
            theirs, at = f"features.{feature}.conv", 0
            if expansion > 1:
                torchvision += normed(f"{ours}_expand", f"{theirs}.0.0", f"{theirs}.0.1")
                at = 1
            names = (f"{theirs}.{at}.0", f"{theirs}.{at}.1")
            torchvision += normed(f"{ours}_depthwise", *names, "depthwise")
            names = (f"{theirs}.{at + 1}", f"{theirs}.{at + 2}")
            torchvision += normed(f"{ours}_project", *names)
            timm += inverted_residual_of_timm(ours, f"blocks.{row}.{index}", expansion > 1)
            feature += 1
    return Table("torchvision", torchvision), Table("timm", timm)


def mobilenet_v3(rows: Sequence[Row]) -> tuple[Table, ...]:
    """Return the tables of the network with these `rows`: torchvision's, and timm's with either
    convention.
    """
    count = len(rows)
    torchvision = [
        *normed("stem", "features.0.0", "features.0.1"),
        *normed("last", f"features.{count + 1}.0", f"features.{count + 1}.1"),
        Layer("hidden1", "classifier.0", "dense"),
        Layer("logits", "classifier.3", "dense"),
    ]
    timm = [
        *normed("stem", "conv_stem", "bn1"),
        Layer("hidden1", "conv_head", "conv as dense"),
        Layer("logits", "classifier", "dense"),
    ]
    ours_stage, stage, index, before = 1, -1, 0, 0
    for number, (_, expanded, channels, gated, _, stride) in enumerate(rows, 1):
        ours_stage += stride > 1
        # In timm, a stage ends where the number of channels changes.
        stage, index = (stage, index + 1) if channels == before else (stage + 1, 0)
        widened = expanded != (before or 16)
        ours = f"stage{ours_stage}_block{number}"
        torchvision += inverted_residual_of_torchvision(
            ours, f"features.{number}.block", widened, gated
        )
        timm += inverted_residual_of_timm(ours, f"blocks.{stage}.{index}", widened, gated)
        before = channels
    timm += normed("last", f"blocks.{stage + 1}.0.conv", f"blocks.{stage + 1}.0.bn1")
    return (
        Table("torchvision", torchvision, epsilon=SLIM),
        Table("timm", timm, conventions=("torch",)),
        Table("timm", timm, conventions=("tensorflow",), epsilon=SLIM),
    )


def inverted_residual_of_torchvision(
    ours: str, theirs: str, widened: bool, gated: bool
) -> Iterator[Layer]:
    """Yield the layers of a block of MobileNetV3 or EfficientNet in torchvision."""
    at = 0
    if widened:
        yield from normed(f"{ours}_expand", f"{theirs}.0.0", f"{theirs}.0.1")
        at += 1
    yield from normed(f"{ours}_depthwise", f"{theirs}.{at}.0", f"{theirs}.{at}.1", "depthwise")
    if gated:
        at += 1
        yield from gates(ours, f"{theirs}.{at}.fc1", f"{theirs}.{at}.fc2")
    yield from normed(f"{ours}_project", f"{theirs}.{at + 1}.0", f"{theirs}.{at + 1}.1")


def inverted_residual_of_timm(
    ours: str, theirs: str, widened: bool, gated: bool = False
) -> Iterator[Layer]:
    """Yield the layers of an inverted residual block in timm."""
    if widened:
        yield from normed(f"{ours}_expand", f"{theirs}.conv_pw", f"{theirs}.bn1")
        yield from normed(f"{ours}_depthwise", f"{theirs}.conv_dw", f"{theirs}.bn2", "depthwise")
        yield from normed(f"{ours}_project", f"{theirs}.conv_pwl", f"{theirs}.bn3")
    else:
        yield from normed(f"{ours}_depthwise", f"{theirs}.conv_dw", f"{theirs}.bn1", "depthwise")
        yield from normed(f"{ours}_project", f"{theirs}.conv_pw", f"{theirs}.bn2")
    if gated:
        yield from gates(ours, f"{theirs}.se.conv_reduce", f"{theirs}.se.conv_expand")
