"""The table of networks, as `cvpipe models --json` has them."""

from __future__ import annotations

import textwrap

from cvpipe.models.catalog import APPLICATIONS, NETWORKS
from lines import table


def models() -> str:
    """Return a table of parameters, multiply-adds and papers."""
    from cvpipe.models.cost import describe

    rows = [
        (
            f"`{row['name']}`",
            f"{row['parameters']:,}",
            f"{row['trainable_parameters']:,}",
            f"{row['macs'] / 1e6:,.1f} M",
            "×".join(map(str, row["input_shape"])),
            row["paper"],
        )
        for row in map(describe, NETWORKS)
    ]
    own = table(("Name", "Parameters", "Trainable", "Multiply-adds", "Input", "Source"), rows)
    others = ", ".join(f"`keras/{name}`" for name in APPLICATIONS)
    more = textwrap.fill(f"Of Keras Applications: {others}.", 100, break_long_words=False)
    return f"{own}\n{more}\n"
