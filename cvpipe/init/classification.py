"""Defaults of classification."""

from __future__ import annotations

from typing import Any

from cvpipe.init.backbones import Backbone, choose_backbone
from cvpipe.init.draft import Draft, color_jitter, epochs_for, rounded_to, schedule, training
from cvpipe.init.measures import Measures

# With fewer images, use more epochs and stronger augmentation.
FEW = 2_000
# Bounds of the input's side for weights of ImageNet, which were trained at 224.
SMALLEST, LARGEST = 128, 224


def draft(measures: Measures) -> Draft:
    """Draft a pipeline that learns the class of an image."""
    backbone = choose_backbone(measures, dense=False)
    small = measures.are_small
    size = _size(measures, backbone)
    batch = 32 if measures.train < FEW else 128 if small else 64
    learn = _tuned if backbone.is_pretrained else _from_scratch
    epochs, model, sections = learn(measures)
    values = {
        "augment": _augment(measures, backbone),
        "prepare": {
            "size": list(size),
            **({} if small else {"resize": "crop"}),
            **backbone.prepare,
        },
        "model": {**backbone.model, **model},
        **sections,
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
        "model.backbone": backbone.reason,
        "model.freeze": "The new last layer is trained alone first, then all layers",
        "train.epochs": "Fewer for a first test; more if the validation score is still rising",
    }
    return Draft(values, reasons, backbone.words)


def _augment(measures: Measures, backbone: Backbone) -> list[dict[str, Any]]:
    if measures.are_small:
        crop: dict[str, Any] = {"op": "pad_crop", "padding": max(1, min(measures.extent) // 8)}
        # Small gray images usually show digits and letters.
        return [crop] if measures.is_gray else [crop, {"op": "flip"}]
    least, amount = (0.35, 0.2) if backbone.is_pretrained else (0.25, 0.3)
    crop = {"op": "random_resized_crop", "area": [least, 1.0]}
    return [crop, {"op": "flip"}, color_jitter(measures, amount)]


def _from_scratch(measures: Measures) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Return the number of epochs, keys of `model`, and the loss and optimizer for random
    weights.
    """
    small = measures.are_small
    epochs = epochs_for(measures, 400_000 if small else 50_000, least=7, most=80)
    model = {"dropout": 0.2} if measures.train < FEW and not small else {}
    optimizer = {"kind": "sgd", "learning_rate": 0.1 if small else 0.05, "nesterov": True}
    loss = {"kind": "softmax", "label_smoothing": 0.1, "l2": 2e-4}
    return epochs, model, {"loss": loss, "optimizer": optimizer}


def _tuned(measures: Measures) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Return the number of epochs, keys of `model`, and the loss and optimizer for pretrained
    weights.
    """
    epochs = epochs_for(measures, 20_000, least=3, most=40)
    model = {"freeze": "backbone", "freeze_epochs": max(1, epochs // 8), "dropout": 0.2}
    rates = {"learning_rate": 3e-3, "backbone_rate": 0.1}
    optimizer = {"kind": "adamw", **rates, "weight_decay": 0.05}
    loss = {"kind": "softmax", "label_smoothing": 0.1}
    return epochs, model, {"loss": loss, "optimizer": optimizer}


def _size(measures: Measures, backbone: Backbone) -> tuple[int, int]:
    """Return the images' own size if they are small; else a square that suits the weights or the
    machine's speed.
    """
    height, width = measures.extent
    if measures.are_small:
        return max(height, 16), max(width, 16)
    if backbone.is_pretrained:
        side = min(LARGEST, max(SMALLEST, rounded_to(32, min(height, width))))
        return side, side
    affordable = 224 if measures.has_gpu else 96 if measures.train < FEW else 128
    side = min(affordable, rounded_to(16, min(height, width)))
    return side, side
