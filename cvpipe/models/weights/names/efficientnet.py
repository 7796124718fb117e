"""EfficientNet of torchvision and timm; EfficientNet-Lite of efficientnet_lite_pytorch and timm.

timm has two versions of each network, one with the prefix tf_. Their layers have the same names,
but padding and epsilon differ, so `model.conventions` says which version a file belongs to.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from cvpipe.models.efficientnet import SCALES, STAGES
from cvpipe.models.efficientnet_lite import EPSILON, Size, blocks_in_order
from cvpipe.models.weights.names.layers import SLIM, Layer, Table, normed
from cvpipe.models.weights.names.mobilenet import (
    inverted_residual_of_timm,
    inverted_residual_of_torchvision,
)

LARGE = ("efficientnet_b5", "efficientnet_b6", "efficientnet_b7")
"""Networks that have TensorFlow's epsilon in torchvision."""


def efficientnet(name: str) -> tuple[Table, ...]:
    """Return the tables of one of SCALES."""
    torchvision = [
        *normed("stem", "features.0.0", "features.0.1"),
        *normed("last", "features.8.0", "features.8.1"),
        Layer("logits", "classifier.1", "dense"),
    ]
    timm = _timm_ends()
    for stage, (count, _, _, expansion, _) in enumerate(STAGES):
        for index in range(ceil(SCALES[name][1] * count)):
            ours, widened = f"stage{stage + 1}_block{index + 1}", expansion > 1
            torchvision += inverted_residual_of_torchvision(
                ours, f"features.{stage + 1}.{index}.block", widened, True
            )
            timm += inverted_residual_of_timm(ours, f"blocks.{stage}.{index}", widened, True)
    return (
        Table("torchvision", torchvision, epsilon=SLIM if name in LARGE else 1e-5),
        Table("timm", timm, conventions=("torch",)),
        Table("timm", timm, conventions=("tensorflow",), epsilon=SLIM),
    )


def efficientnet_lite(size: Size) -> tuple[Table, ...]:
    """Return the tables of an EfficientNet-Lite."""
    packaged = [
        *normed("stem", "_conv_stem", "_bn0"),
        *normed("last", "_conv_head", "_bn1"),
        Layer("logits", "_fc", "dense"),
    ]
    timm = _timm_ends()
    for number, (ours, expansion) in enumerate(blocks_in_order(size)):
        theirs = f"_blocks.{number}"
        if expansion > 1:
            packaged += normed(f"{ours}_expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
        names = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        packaged += normed(f"{ours}_depthwise", *names, "depthwise")
        packaged += normed(f"{ours}_project", f"{theirs}._project_conv", f"{theirs}._bn2")
        stage, block = (int(part.lstrip("stageblock")) - 1 for part in ours.split("_"))
        timm += inverted_residual_of_timm(ours, f"blocks.{stage}.{block}", expansion > 1)
    slim: Any = {"epsilon": SLIM, "cvpipe_epsilon": EPSILON}
    return (
        Table("efficientnet_lite_pytorch", packaged, conventions=("papers", "tensorflow"), **slim),
        Table("timm", timm, conventions=("tensorflow",), **slim),
        Table("timm", timm, conventions=("torch",), cvpipe_epsilon=EPSILON),
    )


def _timm_ends() -> list[Layer]:
    return [
        *normed("stem", "conv_stem", "bn1"),
        *normed("last", "conv_head", "bn2"),
        Layer("logits", "classifier", "dense"),
    ]
