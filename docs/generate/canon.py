"""The page docs/canon.md: every network beside its published figures."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from lines import table

HEAD = """# Networks compared with their papers

Written by `python docs/generate` from `cvpipe models --json`; not edited by hand.

`cvpipe models NAME` prints the layers of a network, `cvpipe models --pipeline FILE` those of a
pipeline's networks, including heads. `cvpipe models compare NAME NAME` also measures latency.

Figures are for the published input size and number of classes. "Parameters" are trainable; "all"
adds BatchNorm's moving statistics. Multiply-adds include convolutions and fully connected layers.
Activations are the image and the outputs of convolutions, fully connected layers, poolings,
additions and concatenations, for one image in float32; norms and activation functions count as in
place. "Sees" is the receptive field of the backbone's last map.

Published figures in bold agree in all digits, or within 1 % if the source is rounded.
Sources: T torchvision, K Keras Applications, M timm, C counted from the paper's table, P the paper.
"""
TAIL = """
The slide of VGG16 in CS231n's lectures lists the same rows, which add up to 15.2 million values and
61 MB; its stated sum is 24 million and 96 MB. The slide of the inception module with bottlenecks
states 358 million multiply-adds; its rows add up to 271 million, or to 358 million if the 3×3
convolution is counted twice.
"""


def canon() -> str:
    """Return the page, with every network built anew: about a minute."""
    from cvpipe.models.catalog import NETWORKS
    from cvpipe.models.describe import describe

    return page([describe(name) for name in NETWORKS])


def page(networks: Sequence[Mapping[str, Any]]) -> str:
    """Return the page, from the list that `cvpipe models --json` prints."""
    head = ("Network", "Parameters", "all", "Published", "M mult-adds", "Published")
    head += ("Activations MB", "Input", "Sees", "Paper")
    deviations = [
        textwrap.fill(
            f"- `{network['name']}`: {network['published']['deviation']}.",
            100,
            subsequent_indent="  ",
            break_on_hyphens=False,
        )
        for network in networks
        if network["published"] and network["published"]["deviation"]
    ]
    rows = table(head, [_cells(network) for network in networks])
    named = "\n".join(deviations)
    return f"{HEAD}\n{rows}\n## Deviations\n\n{named}\n{TAIL}"


def _cells(network: Mapping[str, Any]) -> list[str]:
    field = network["receptive_field"]
    return [
        f"`{network['name']}`",
        f"{network['trainable_parameters']:,}",
        f"{network['parameters']:,}",
        *_published(network),
        f"{network['activation_bytes'] / 1e6:.1f}",
        _sides(network["input_shape"]),
        _sides(field) if field else "all",
        network["paper"],
    ]


def _published(network: Mapping[str, Any]) -> list[str]:
    """Cells from the published parameters to the published multiply-adds."""
    macs, known = f"{network['macs'] / 1e6:,.1f}", network["published"]
    if known is None:
        return ["–", macs, "–"]
    mark = "" if known["deviation"] else "**"
    counted = " all" if known["counted"] == "all" else ""
    cells = ["–", macs, "–"]
    if known["parameters"] is not None:
        cells[0] = f"{mark}{known['parameters']:,.0f}{mark}{counted} ({known['source']})"
    if known["gmacs"] is not None:
        cells[2] = f"{mark}{1000 * known['gmacs']:,.0f}{mark} ({known['source']})"
    return cells


def _sides(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))
