"""Generate the table of the catalog's networks."""

from __future__ import annotations

import textwrap

from cvpipe.models.catalog import APPLICATIONS, NETWORKS
from lines import table


def models() -> str:
    """Return the table of networks with inputs and papers, and the list of Keras Applications."""
    rows = [
        (f"`{name}`", "×".join(map(str, network.input_shape)), network.paper)
        for name, network in NETWORKS.items()
    ]
    own = table(("Name", "Input", "Source"), rows)
    others = ", ".join(f"`keras/{name}`" for name in APPLICATIONS)
    more = textwrap.fill(f"From Keras Applications: {others}.", 100, break_long_words=False)
    return f"{own}\n{more}\n"
