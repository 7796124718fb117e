"""Defaults of pose."""

from __future__ import annotations

from typing import Any

from cvpipe.data.annotations.flip_pairs import unpaired_sides
from cvpipe.errors import counted
from cvpipe.init.backbones import choose_backbone
from cvpipe.init.draft import Draft, color_jitter, epochs_for, rounded_to, schedule, training
from cvpipe.init.measures import Measures

LONGEST = 192


def draft(measures: Measures) -> Draft:
    """Draft a pipeline that learns the keypoints of the largest figure."""
    backbone = choose_backbone(measures, dense=True)
    height, width = measures.extent
    longest = max(height, width)
    side = min(LONGEST, longest)
    size = [rounded_to(32, side * length / longest) for length in (height, width)]
    alone = unpaired_sides(measures.keypoints, measures.flip_pairs)
    mirroring = _mirroring(measures, alone)
    epochs = epochs_for(measures, 70_000, least=12, most=150)
    values: dict[str, Any] = {
        "augment": [
            *([] if alone else [{"op": "flip"}]),
            {"op": "rotate", "degrees": 15, "fill": "reflect"},
            color_jitter(measures, 0.2),
        ],
        "prepare": {
            "size": size,
            **({"resize": "letterbox"} if measures.aspects_differ else {}),
            **backbone.prepare,
        },
        "model": {**backbone.model, "head": {"kind": "heatmaps", "start": 16}},
        "loss": {"kind": "gaussian"},
        "optimizer": {
            "kind": "adamw",
            "learning_rate": 0.002,
            **({"backbone_rate": 0.3} if backbone.is_pretrained else {}),
            "weight_decay": 0.01,
        },
        "schedule": schedule(epochs),
        "train": training(measures, epochs, 32),
    }
    reasons = {
        "augment": mirroring,
        "prepare.size": f"Images have a median of {height}×{width} pixels",
        "model.backbone": backbone.reason,
        "model.head": counted(len(measures.keypoints), "keypoint"),
        "train.epochs": "Fewer for a first test; more if the validation score is still rising",
    }
    return Draft(values, reasons, f"{backbone.words}, with a heatmap head", (mirroring,))


def _mirroring(measures: Measures, alone: tuple[str, ...]) -> str:
    """Say which keypoints a mirrored image swaps, or why images aren't mirrored."""
    names = measures.keypoints
    if alone:
        return (
            f"Images aren't mirrored, because no partner is known of {alone[0]}; to mirror them,"
            " name the pairs of left and right in data.source.flip_pairs and add {op: flip}"
        )
    if not measures.flip_pairs:
        return (
            "Mirrored images swap no keypoints; if some are on the left or right, name the pairs in"
            " data.source.flip_pairs, or leave flip out"
        )
    first, other = measures.flip_pairs[0]
    return (
        f"Mirrored images swap {counted(len(measures.flip_pairs), 'pair')} of keypoints, such as"
        f" {names[first]} and {names[other]}"
    )
