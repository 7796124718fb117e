"""Choice of the network of a drafted pipeline, its width and its weights."""

from __future__ import annotations

from typing import Any, NamedTuple

from cvpipe.init.measures import PRETRAINED, Measures

# With at least this many images, a wider network is worth its time even on slow processors.
MANY = 20_000


class Backbone(NamedTuple):
    """A choice of backbone."""

    model: dict[str, Any]
    """Keys of `model`."""
    prepare: dict[str, Any]
    """Keys of `prepare` that the network or its weights need."""
    words: str
    """The choice in words."""
    reason: str
    """The reason for the choice, for a comment in the pipeline file."""

    @property
    def is_pretrained(self) -> bool:
        """True if the network starts from weights."""
        return "weights" in self.model


def choose_backbone(measures: Measures, dense: bool) -> Backbone:
    """Choose a backbone: a pretrained one if its weights are installed, unless images are small.

    Args:
        measures: measures of the data and the machine.
        dense: True for tasks that need feature maps of several strides, such as boxes or masks.
    """
    reason = f"For {measures.train:,} training images; cvpipe models lists others"
    if measures.has_weights and not measures.are_small:
        # The weights expect three channels, so gray images are decoded as color.
        tuned = {"backbone": PRETRAINED, "weights": "imagenet"}
        return Backbone(tuned, {"normalize": "weights"}, f"{PRETRAINED} of ImageNet", reason)
    prepare = {"channels": 1} if measures.is_gray else {}
    if measures.are_small and not dense:
        return Backbone({"backbone": "resnet20"}, prepare, "resnet20, from scratch", reason)
    on_cpu = 0.5 if dense or measures.train >= MANY else 0.25
    width = 1.0 if measures.has_gpu else on_cpu
    model: dict[str, Any] = {"backbone": "resnet18"}
    if width != 1:
        model["width"] = width
    size = {1.0: "resnet18", 0.5: "a half-width resnet18", 0.25: "a quarter-width resnet18"}[width]
    if not measures.are_small:
        reason += (
            f". {PRETRAINED} with weights of ImageNet learns more from few images: pip install"
            " 'cvpipe[pretrained]', then draft again"
        )
    return Backbone(model, prepare, f"{size}, from scratch", reason)
