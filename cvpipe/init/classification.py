"""Defaults of classification."""

from __future__ import annotations

from typing import Any

from cvpipe.init.backbones import choose_backbone
from cvpipe.init.draft import Draft, color_jitter, epochs_for, rounded_to, schedule, training
from cvpipe.init.measures import Measures

# With fewer images, use more epochs and stronger augmentation.
FEW = 2_000


def draft(measures: Measures) -> Draft:
    """Draft a pipeline that learns the class of an image."""
    backbone = choose_backbone(measures, dense=False)
    small = measures.are_small
    size = _size(measures)
    epochs = epochs_for(measures, 400_000 if small else 50_000, least=7, most=80)
    if small:
        crop: dict[str, Any] = {"op": "pad_crop", "padding": max(1, min(measures.extent) // 8)}
        # Small gray images usually show digits and letters.
        augment = [crop] if measures.is_gray else [crop, {"op": "flip"}]
    else:
        crop = {"op": "random_resized_crop", "area": [0.25, 1.0]}
        augment = [crop, {"op": "flip"}, color_jitter(measures, 0.3)]
    model = dict(backbone.model)
    if measures.train < FEW and not small:
        model["dropout"] = 0.2
    batch = 32 if measures.train < FEW else 128 if small else 64
    values = {
        "augment": augment,
        "prepare": {
            "size": list(size),
            **({"channels": 1} if measures.is_gray else {}),
            **({} if small else {"resize": "crop"}),
            **backbone.prepare,
        },
        "model": model,
        "loss": {"kind": "softmax", "label_smoothing": 0.1, "l2": 2e-4},
        "optimizer": {"kind": "sgd", "learning_rate": 0.1 if small else 0.05, "nesterov": True},
        "schedule": schedule(epochs),
        "train": training(measures, epochs, batch),
    }
    reasons = {
        "augment": (
            "No flip, because digits and letters aren't symmetric; add {op: flip} for other objects"
            if small and measures.is_gray
            else "Remove flip if left and right matter, as in text"
        ),
        "prepare.size": f"Images have a median of {measures.extent[0]}×{measures.extent[1]} pixels"
        + ("" if small else "; larger sizes show finer details and take longer"),
        "model.backbone": f"For {measures.train:,} training images; cvpipe models lists others",
        "train.epochs": "Fewer for a first test; more if the validation score is still rising",
    }
    return Draft(values, reasons, backbone.words)


def _size(measures: Measures) -> tuple[int, int]:
    """Return the images' own size if they are small; else a square by the machine's speed."""
    height, width = measures.extent
    if measures.are_small:
        return max(height, 16), max(width, 16)
    affordable = 224 if measures.has_gpu else 96 if measures.train < FEW else 128
    side = min(affordable, rounded_to(16, min(height, width)))
    return side, side
