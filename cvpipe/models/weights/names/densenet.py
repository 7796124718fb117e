"""DenseNet: torchvision and timm have the same names."""

from __future__ import annotations

from collections.abc import Sequence

from cvpipe.models.weights.names.layers import Layer, Table, normed


def densenet(blocks: Sequence[int]) -> tuple[Table, ...]:
    """Return the tables of a network with `blocks` layers per block.

    Names in torchvision's published files have a dot before the number of a layer; torchvision
    removes it when it loads them.
    """
    return _table(blocks, ""), _table(blocks, ".")


def _table(blocks: Sequence[int], dot: str) -> Table:
    layers = [
        *normed("stem", "features.conv0", "features.norm0"),
        Layer("last_norm", "features.norm5", "norm"),
        Layer("logits", "classifier", "dense"),
    ]
    for stage, count in enumerate(blocks, 1):
        for index in range(1, count + 1):
            theirs = f"features.denseblock{stage}.denselayer{index}"
            for number in (1, 2):
                names = (f"{theirs}.conv{dot}{number}", f"{theirs}.norm{dot}{number}")
                layers += normed(f"stage{stage}_layer{index}_conv{number}", *names)
        if stage < len(blocks):
            theirs = f"features.transition{stage}"
            layers += normed(f"stage{stage}_transition", f"{theirs}.conv", f"{theirs}.norm")
    return Table("torchvision", layers)
