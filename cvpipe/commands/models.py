"""`cvpipe models`."""

from __future__ import annotations

import argparse
from typing import Any

from cvpipe.commands.command import add_command, print_result


def add(commands: Any) -> None:
    """Declares the command."""
    parser = add_command(commands, "models", models, "list the networks with their sizes")
    parser.add_argument("network", metavar="NAME", nargs="?", help="only this one")


def models(options: argparse.Namespace) -> int:
    """Prints what each network costs."""
    from cvpipe.models.catalog import NETWORKS
    from cvpipe.runtime import quiet_tensorflow

    quiet_tensorflow()
    from cvpipe.models.cost import describe

    rows = [describe(name) for name in ([options.network] if options.network else NETWORKS)]
    lines = [
        f"{'name':<14}{'parameters':>12}{'trainable':>12}{'M mult-adds':>13}  {'input':<12}paper"
    ]
    for row in rows:
        size = "×".join(map(str, row["input_shape"]))
        lines.append(
            f"{row['name']:<14}{row['parameters']:>12,}{row['trainable_parameters']:>12,}"
            f"{row['macs'] / 1e6:>13,.1f}  {size:<12}{row['paper']}"
        )
    print_result(options, rows, lines)
    return 0
