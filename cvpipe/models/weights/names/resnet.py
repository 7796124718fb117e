"""ResNet, Wide ResNet, ResNeXt and SE-ResNet: torchvision and timm have the same names."""

from __future__ import annotations

from collections.abc import Sequence

from cvpipe.models.weights.names.layers import Layer, Table, gates, normed


def resnet(
    blocks: Sequence[int], convolutions: int = 3, *, gated: bool = False
) -> tuple[Table, ...]:
    """Return the tables of a network with `blocks` per stage.

    Args:
        blocks: number of blocks in each of the four stages.
        convolutions: number of convolutions in a block.
        gated: True if a block has squeeze-and-excitation; only timm has such networks.
    """
    layers = [*normed("stem", "conv1", "bn1"), Layer("logits", "fc", "dense")]
    for stage, count in enumerate(blocks, 1):
        for index in range(count):
            ours, theirs = f"stage{stage}_block{index + 1}", f"layer{stage}.{index}"
            for number in range(1, convolutions + 1):
                names = (f"{theirs}.conv{number}", f"{theirs}.bn{number}")
                layers += normed(f"{ours}_conv{number}", *names)
            if gated:
                layers += gates(ours, f"{theirs}.se.fc1", f"{theirs}.se.fc2")
            # The first stage of basic blocks keeps its shape.
            if index == 0 and (stage > 1 or convolutions == 3):
                names = (f"{theirs}.downsample.0", f"{theirs}.downsample.1")
                layers += normed(f"{ours}_shortcut", *names)
    return (Table("timm" if gated else "torchvision", layers),)
