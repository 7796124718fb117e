"""Defaults of pose."""

from __future__ import annotations

from typing import Any

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
    epochs = epochs_for(measures, 70_000, least=12, most=150)
    values: dict[str, Any] = {
        "augment": [
            {"op": "flip"},
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
        "prepare.size": f"Images have a median of {height}×{width} pixels",
        "model.backbone": backbone.reason,
        "model.head": f"{measures.keypoints} keypoints",
        "train.epochs": "Fewer for a first test; more if the validation score is still rising",
    }
    return Draft(values, reasons, f"{backbone.words}, with a heatmap head")
