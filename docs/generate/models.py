"""The table of networks, as the catalog has them."""

from __future__ import annotations

import textwrap

from cvpipe.models.catalog import APPLICATIONS, NETWORKS
from lines import table


def models() -> str:
    """Return a table of inputs and papers."""
    rows = [
        (f"`{name}`", "×".join(map(str, network.input_shape)), network.paper)
        for name, network in NETWORKS.items()
    ]
    own = table(("Name", "Input", "Source"), rows)
    others = ", ".join(f"`keras/{name}`" for name in APPLICATIONS)
    more = textwrap.fill(f"Of Keras Applications: {others}.", 100, break_long_words=False)
    return f"{own}\n{more}\n"
