"""Defaults of segmentation."""

from __future__ import annotations

from typing import Any

from cvpipe.init.backbones import choose_backbone
from cvpipe.init.draft import Draft, color_jitter, epochs_for, rounded_to, schedule, training
from cvpipe.init.measures import Measures

# Side of a tile, and of images that are processed whole, in pixels.
TILE = 256


def draft(measures: Measures) -> Draft:
    """Draft a pipeline that learns the class of every pixel."""
    backbone = choose_backbone(measures, dense=True)
    height, width = measures.extent
    tiled = max(height, width) > 1.5 * TILE
    side = TILE if tiled else min(TILE, rounded_to(32, max(height, width)))
    size = [side, side]
    if not tiled:
        size = [rounded_to(32, side * length / max(height, width)) for length in (height, width)]
    # Images that are processed whole are scaled to `size`; crops are cut from the photo itself.
    shrunk = 1.0 if tiled else side / max(height, width)
    scale = [round(factor * shrunk, 2) for factor in (0.7, 1.5)]
    tuned = backbone.is_pretrained
    epochs = epochs_for(
        measures, 8_000 if tuned else 13_000, least=6 if tuned else 12, most=150 if tuned else 300
    )
    batch = min(8, max(1, measures.train))
    prepare: dict[str, Any] = {
        "size": size,
        **({"resize": "tile"} if tiled else {}),
        **backbone.prepare,
    }
    values: dict[str, Any] = {
        "augment": [
            {"op": "scale_crop", "scale": scale, "balance": 0.5},
            {"op": "flip"},
            color_jitter(measures, 0.2),
        ],
        "prepare": prepare,
        "model": {**backbone.model, "head": {"kind": "fcn", "stride": 8, "output_stride": 4}},
        "loss": {"kind": "softmax", "dice_weight": 1},
        "optimizer": {
            "kind": "adamw",
            "learning_rate": 0.001,
            **({"backbone_rate": 0.3} if tuned else {}),
            "weight_decay": 0.01,
        },
        "schedule": schedule(epochs),
        "train": training(measures, epochs, batch),
    }
    processed = (
        "cut into tiles for prediction and cropped for training" if tiled else "processed whole"
    )
    reasons = {
        "augment": "Half of the crops are placed around a pixel of a random class; add {op: flip,"
        " direction: vertical} for photos from above or through a microscope",
        "prepare.size": f"Images have a median of {height}×{width} pixels; they are {processed}",
        "model.backbone": backbone.reason,
        "model.head": "output_stride: 1 segments thin shapes more exactly and takes longer",
        "train.epochs": "Fewer for a first test; more if the validation score is still rising",
    }
    return Draft(values, reasons, f"{backbone.words}, with an FCN-8s head")
