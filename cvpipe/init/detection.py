"""Defaults of detection."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cvpipe.errors import DataError
from cvpipe.geometry.anchors import find_anchors, rounded_anchors
from cvpipe.init.backbones import choose_backbone
from cvpipe.init.draft import Draft, color_jitter, epochs_for, rounded_to, schedule, training
from cvpipe.init.measures import Measures

# Least shorter side of small objects in the network's input, in pixels, if possible.
SEEN = 16
SIDES = (320, 416, 512, 640)
# Longer side of objects that need the coarsest grid, in pixels of the network's input.
LARGE = 96
# The default of data.max_objects.
MOST_OBJECTS = 100
_ANCHORS_PER_GRID = 3


def draft(measures: Measures) -> Draft:
    """Draft a pipeline that learns the boxes of objects.

    Raises:
        DataError: the inspected images have no objects.
    """
    if not len(measures.object_shares):
        raise DataError(
            "none of the inspected images has an object; correct the annotations, or write the"
            " pipeline by hand (docs/detection.md)"
        )
    backbone = choose_backbone(measures, dense=True)
    letterbox = measures.aspects_differ
    size = _size(measures, letterbox, 16)
    sizes = _at_input(measures, size, letterbox)
    large = bool(np.quantile(sizes.max(1) * max(size), 0.9) >= LARGE)
    strides = [8, 16, 32] if large else [8, 16]
    if large:
        size = _size(measures, letterbox, 32)
        sizes = _at_input(measures, size, letterbox)
    anchors, fit = _anchors(sizes, _ANCHORS_PER_GRID * len(strides))
    tuned = backbone.is_pretrained
    epochs = epochs_for(measures, 10_000 if tuned else 16_000, least=6 if tuned else 12, most=120)
    batch = 16 if measures.has_gpu else 8
    values: dict[str, Any] = {
        "augment": [
            {"op": "flip"},
            {"op": "scale_jitter", "scale": [0.8, 1.25], "aspect": [0.85, 1.18]},
            color_jitter(measures, 0.2),
        ],
        "prepare": {
            "size": list(size),
            **({"resize": "letterbox"} if letterbox else {}),
            **backbone.prepare,
        },
        "model": {
            **backbone.model,
            "head": {"kind": "yolo_v3", "strides": strides, "anchors": anchors},
        },
        "loss": {"kind": "yolo", "box": "ciou", "box_weight": 3},
        "optimizer": {
            "kind": "adamw",
            "learning_rate": 0.002 if tuned else 0.001,
            **({"backbone_rate": 0.5} if tuned else {}),
            "weight_decay": 0.05,
        },
        "schedule": schedule(epochs),
        "train": training(measures, epochs, batch),
    }
    if measures.most_objects > MOST_OBJECTS:
        most = math.ceil(1.2 * measures.most_objects / 10) * 10
        values = {"data": {"max_objects": most}, **values}
    small, middle = np.quantile(measures.object_pixels.min(1), [0.1, 0.5])
    reasons = {
        "data.max_objects": f"An image has up to {measures.most_objects} objects",
        "augment": "Remove flip if left and right matter; add {op: flip, direction: vertical} for"
        " photos from above or through a microscope",
        "prepare.size": f"Images have a median of {measures.extent[0]}×{measures.extent[1]} pixels."
        f" The median of the objects' shorter sides is {middle:.0f} pixels; a tenth of the objects"
        f" have less than {small:.0f}",
        "model.backbone": backbone.reason,
        "model.head": f"Anchors fit the objects with a mean IoU of {fit:.2f} (cvpipe data anchors)",
        "train.epochs": "Fewer for a first test; more if the validation score is still rising",
    }
    return Draft(values, reasons, f"{backbone.words}, with a yolo_v3 head")


def _size(measures: Measures, letterbox: bool, multiple: int) -> tuple[int, int]:
    """Return a size with the images' aspect ratio that shows small objects, is not larger than the
    images, and is a multiple of the coarsest stride.
    """
    height, width = measures.extent
    longest = max(height, width)
    small = float(np.quantile(measures.object_pixels.min(1), 0.1))
    needed = longest * SEEN / max(small, 1e-6)
    side = next((side for side in SIDES if side >= needed), SIDES[-1])
    side = max(64, min(side, rounded_to(32, longest)))
    if letterbox:
        return side, side
    shrunk = side / longest
    return rounded_to(multiple, shrunk * height), rounded_to(multiple, shrunk * width)


def _at_input(measures: Measures, size: tuple[int, int], letterbox: bool) -> np.ndarray:
    """Return heights and widths of objects as shares of the network's input, float64 [T, 2]."""
    if not letterbox:
        return measures.object_shares
    # Size of each object's image in pixels.
    extents = measures.object_pixels / measures.object_shares
    scale = (np.array(size) / extents).min(1, keepdims=True)
    return measures.object_pixels * scale / size


def _anchors(sizes: np.ndarray, number: int) -> tuple[list[list[float]], float]:
    """Return anchors from small to large, and the mean IoU of objects with their best anchor. If
    objects have too few different sizes, scaled copies of these sizes are added.
    """
    different = np.unique(sizes, axis=0)
    if len(different) < number:
        factors = np.geomspace(0.7, 1.4, -(-2 * number // len(different)))
        sizes = np.concatenate([sizes, *(different * factor for factor in factors)])
    anchors, fit = find_anchors(sizes.astype(np.float32), number, seed=0)
    return rounded_anchors(anchors, 3), fit
