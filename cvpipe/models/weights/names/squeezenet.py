"""SqueezeNet of torchvision."""

from __future__ import annotations

from collections.abc import Collection

from cvpipe.models.squeezenet import FIRES
from cvpipe.models.weights.names.layers import ANY, Layer, Table


def squeezenet(pools: Collection[int]) -> tuple[Table, ...]:
    """Return the table of torchvision's network with poolings after the fire modules in `pools`.

    Its last convolution is left out. In torchvision a ReLU follows it, so the same weights would
    give other logits here.
    """
    layers = [Layer("stem", "features.0", "biased conv")]
    # A ReLU and a pooling follow the first convolution.
    at = 3
    for number in range(2, len(FIRES) + 2):
        for ours, theirs in (("squeeze", "squeeze"), ("expand1", "expand1x1")):
            name = f"features.{at}.{theirs}"
            layers.append(Layer(f"fire{number}_{ours}", name, "biased conv"))
        layers.append(Layer(f"fire{number}_expand3", f"features.{at}.expand3x3", "biased conv"))
        at += 2 if number in pools else 1
    return (Table("torchvision", layers, ("classifier.",), conventions=ANY),)
