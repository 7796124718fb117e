"""Choice of the network of a drafted pipeline, its width and its weights."""

from __future__ import annotations

from typing import Any, NamedTuple

from cvpipe.init.measures import Measures

# With at least this many images, a wider network is worth its time even on slow processors.
MANY = 20_000


class Backbone(NamedTuple):
    """A choice of backbone."""

    model: dict[str, Any]
    """Keys of `model`."""
    prepare: dict[str, Any]
    """Keys of `prepare` that the weights need; none if the network is trained from scratch."""
    words: str
    """The choice in words."""


def choose_backbone(measures: Measures, dense: bool) -> Backbone:
    """Choose a backbone.

    Args:
        measures: measures of the data and the machine.
        dense: True for tasks that need feature maps of several strides, such as boxes or masks.
    """
    if measures.are_small and not dense:
        return Backbone({"backbone": "resnet20"}, {}, "resnet20, from scratch")
    on_cpu = 0.5 if dense or measures.train >= MANY else 0.25
    width = 1.0 if measures.has_gpu else on_cpu
    model: dict[str, Any] = {"backbone": "resnet18"}
    if width != 1:
        model["width"] = width
    size = {1.0: "resnet18", 0.5: "a half-width resnet18", 0.25: "a quarter-width resnet18"}[width]
    return Backbone(model, {}, f"{size}, from scratch")
