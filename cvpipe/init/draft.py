"""A drafted pipeline: values by section, and their reasons."""

from __future__ import annotations

from typing import Any, NamedTuple

from cvpipe.init.measures import Measures


class Draft(NamedTuple):
    """Sections of a pipeline file except `task` and `data.source`, with reasons."""

    values: dict[str, Any]
    """Keys and values of the pipeline file."""
    reasons: dict[str, str]
    """Comments above keys, by key such as "prepare.size"."""
    network: str
    """The network in words."""
    remarks: tuple[str, ...] = ()
    """Sentences about choices that users may want to change."""


def rounded_to(multiple: int, length: float) -> int:
    """Return the positive multiple of `multiple` that is nearest to a length."""
    return max(round(length / multiple), 1) * multiple


def epochs_for(measures: Measures, images: int, least: int, most: int) -> int:
    """Return the number of epochs, within bounds, for about `images` training images in all."""
    return min(max(round(images / measures.train), least), most)


def schedule(epochs: int) -> dict[str, Any]:
    """Return a cosine schedule with a suitable warm-up."""
    return {"kind": "cosine", "warmup_epochs": min(3, max(1, epochs // 10)) if epochs > 1 else 0}


def training(measures: Measures, epochs: int, batch_size: int) -> dict[str, Any]:
    """Return `train`, with a batch not larger than the training split and about ten evaluations."""
    fitting = min(batch_size, max(measures.train, 1))
    return {"epochs": epochs, "batch_size": fitting, "evaluate_every": max(1, round(epochs / 10))}


def color_jitter(measures: Measures, amount: float) -> dict[str, Any]:
    """Return color jitter; for gray images, of brightness and contrast only."""
    op = {"op": "color_jitter", "brightness": amount, "contrast": amount}
    return op if measures.is_gray else {**op, "saturation": amount, "hue": round(amount / 10, 3)}
