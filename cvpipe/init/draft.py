"""A drafted pipeline: values by section, and the reason of each."""

from __future__ import annotations

from typing import Any, NamedTuple

from cvpipe.init.measures import Measures


class Draft(NamedTuple):
    """Sections of a pipeline file but `task` and `data.source`, and why they are as they are."""

    values: dict[str, Any]
    """Keys and values of the pipeline file."""
    reasons: dict[str, str]
    """By key, such as "prepare.size", a comment that stands above it."""
    network: str
    """The network in words."""


def rounded_to(multiple: int, length: float) -> int:
    """Return the multiple that is nearest to a length, at least one."""
    return max(round(length / multiple), 1) * multiple


def epochs_for(measures: Measures, images: int, least: int, most: int) -> int:
    """Return the epochs that show about so many images, within bounds."""
    return min(max(round(images / measures.train), least), most)


def schedule(epochs: int) -> dict[str, Any]:
    """Return a cosine with a warm-up that fits."""
    return {"kind": "cosine", "warmup_epochs": min(3, max(1, epochs // 10)) if epochs > 1 else 0}


def training(measures: Measures, epochs: int, batch_size: int) -> dict[str, Any]:
    """Return `train`: batches that the training split fills, and about ten evaluations."""
    fitting = min(batch_size, max(measures.train, 1))
    return {"epochs": epochs, "batch_size": fitting, "evaluate_every": max(1, round(epochs / 10))}


def color_jitter(measures: Measures, amount: float) -> dict[str, Any]:
    """Return changes of color; of gray images, of brightness and contrast."""
    op = {"op": "color_jitter", "brightness": amount, "contrast": amount}
    return op if measures.is_gray else {**op, "saturation": amount, "hue": round(amount / 10, 3)}
